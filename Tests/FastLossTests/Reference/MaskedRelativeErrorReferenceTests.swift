// The oracle of the relative error against PyTorch.

import FastLossReference
import Testing

@Suite struct MaskedRelativeErrorReferenceTests {
    @Test(arguments: try Golden.cases(of: "MaskedRelativeError"))
    func matchesPyTorch(_ golden: Golden) throws {
        let (x, t) = (try golden.doubles("predictions"), try golden.doubles("targets"))
        let mask = try golden.bools("mask")
        for (reduction, name) in [(Reference.Reduction.mean, "mean"), (.sum, "sum")] {
            let value = Reference.MaskedRelativeError.value(
                predictions: x, targets: t, mask: mask, reduction: reduction)
            expectClose([value], try golden.truth(name), Tolerances.oracle, name)
        }
        let values = Reference.MaskedRelativeError.perCellValues(
            predictions: x, targets: t, mask: mask, rows: try golden.int("rows"),
            columns: try golden.int("columns"))
        expectClose(values, try golden.truth("perCell"), Tolerances.oracle, "perCell")
    }
}
