// The errors that no other test file throws, and what all of them have in common. Each loss's own are in its
// file.

import FastLoss
import Testing

@Suite struct LossErrorTests {
    /// Errors of parts that have no test file of their own: a message names what was wrong and with which
    /// value.
    @Test(arguments: [
        (
            LossError.missingInput(term: "cellGene", argument: "cellPredictions"),
            "the objective's term .cellGene is on, but its input cellPredictions is nil"
        ),
        (
            .gradientWithoutInput(gradient: "gradients.batchLogits"),
            "gradients.batchLogits has a buffer, but its input is nil"
        ),
        (
            .factorizationFailed(routine: "sgesdd", info: 3),
            "LAPACK's sgesdd did not converge (info 3)"
        ),
        (
            .outOfMemory(call: "TotalObjective", bytes: 4096),
            "TotalObjective could not allocate 4096 bytes of scratch memory"
        ),
    ])
    func messages(error: LossError, message: String) {
        #expect(error.description == message)
        #expect("\(error)" == message)
    }

    /// Which of several errors is reported: shapes before scales before overlap before contents.
    @Test func firstThingsFirst() {
        let memory = TestMemory(floats: 32)
        for (targets, scale, mask, message) in [
            (7, Float.nan, 24, "targets has 7 elements, but the other arguments ask for 8"),
            (8, .nan, 24, "gradientScale is nan, but it must be finite"),
            (8, 1, 24, "output gradient shares memory with predictions"),
        ] {
            expectError(message) { () throws(LossError) in
                var gradient = memory.mutable(0, count: 8)
                _ = try MaskedMSE().valueAndGradient(
                    predictions: memory.floats(0, count: 8), targets: memory.floats(8, count: targets),
                    mask: memory.bools(mask, count: 8), gradient: &gradient, gradientScale: scale,
                    workspace: Workspace(workers: 1))
            }
        }
    }
}
