// The oracle of the batched masked reductions against PyTorch.

import FastLossReference
import Testing

@Suite struct MaskedReductionsReferenceTests {
    @Test(arguments: try Golden.cases(of: "MaskedReductions"))
    func matchesPyTorch(_ golden: Golden) throws {
        let values = try golden.doubles("values")
        let (rows, columns) = (try golden.int("rows"), try golden.int("columns"))
        let (masks, count) = (try golden.bools("masks"), try golden.int("maskCount"))
        let sums = Reference.MaskedReductions.sums(
            values: values, rows: rows, columns: columns, masks: masks, maskCount: count)
        let means = Reference.MaskedReductions.means(
            values: values, rows: rows, columns: columns, masks: masks, maskCount: count)
        expectClose(sums, try golden.truth("sums"), Tolerances.oracle, "sums")
        expectClose(means, try golden.truth("means"), Tolerances.oracle, "means")

        let output = try golden.doubles("outputGradient")
        var gradient = [Double].untouched(values.count)
        Reference.MaskedReductions.sumsGradient(
            outputGradient: output, rows: rows, columns: columns, masks: masks, maskCount: count,
            gradient: &gradient)
        expectClose(gradient, try golden.truth("sumsGradient"), Tolerances.oracle, "sumsGradient")
        Reference.MaskedReductions.meansGradient(
            outputGradient: output, rows: rows, columns: columns, masks: masks, maskCount: count,
            gradient: &gradient)
        expectClose(gradient, try golden.truth("meansGradient"), Tolerances.oracle, "meansGradient")
    }
}
