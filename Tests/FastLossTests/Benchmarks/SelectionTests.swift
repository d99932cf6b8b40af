// --filter and --quick.

import Benchmarks
import Testing

@Suite struct SelectionTests {
    let benchmarks = [
        sampleBenchmark(kernel: "MaskedMSE", shape: ProblemShape(64, 1201)),
        sampleBenchmark(kernel: "BernoulliNLL", variant: "logits", shape: ProblemShape(700, 765)),
        sampleBenchmark(kernel: "TokenPooling", shape: ProblemShape(64, 1201, 512), isQuick: false),
    ]

    @Test func `names tell kernel, variant, mode and shape`() {
        #expect(
            benchmarks.map(\.name) == [
                "MaskedMSE/valueAndGradient/64x1201", "BernoulliNLL(logits)/valueAndGradient/700x765",
                "TokenPooling/valueAndGradient/64x1201x512",
            ])
    }

    @Test(arguments: [
        ("maskedmse", [0]), ("64x1201", [0, 2]), ("^(masked|token)", [0, 2]), ("logits", [1]), ("x512$", [2]),
        ("", [0, 1, 2]),
    ])
    func `a filter is text or a regular expression in any case`(filter: String, expected: [Int]) throws {
        let selected = try benchmarks.selected(by: filter, quick: false)
        #expect(selected.map(\.name) == expected.map { benchmarks[$0].name })
    }

    @Test func `quick leaves the large shapes out`() throws {
        #expect(try benchmarks.selected(by: nil, quick: false).count == 3)
        #expect(try benchmarks.selected(by: nil, quick: true).map(\.kernel) == ["MaskedMSE", "BernoulliNLL"])
    }

    @Test func `a filter that matches nothing lists what there is`() {
        #expect {
            try benchmarks.selected(by: "pooling", quick: true)
        } throws: {
            "\($0)" == """
                --filter 'pooling' matches no benchmark. There are:
                  MaskedMSE/valueAndGradient/64x1201
                  BernoulliNLL(logits)/valueAndGradient/700x765
                """
        }
    }

    @Test func `a filter that is no regular expression says so`() {
        #expect {
            try benchmarks.selected(by: "(", quick: false)
        } throws: {
            "\($0)".hasPrefix("--filter '(' is not a regular expression: ")
        }
    }
}
