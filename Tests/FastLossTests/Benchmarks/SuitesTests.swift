// Rules that every suite keeps.

import Benchmarks
import Testing

@Suite struct SuitesTests {
    @Test func `names are unique`() {
        let names = Suites.all.map(\.name)
        #expect(!names.isEmpty)
        #expect(names.count == Set(names).count)
    }

    /// They are words on command lines.
    @Test func `names have no spaces`() {
        for name in Suites.all.map(\.name) { #expect(!name.contains(" "), "\(name)") }
    }

    @Test func `a naive loop timed elsewhere is timed there`() {
        for benchmark in Suites.all {
            guard let elsewhere = benchmark.naiveTimedAt else { continue }
            #expect(
                Suites.all.contains {
                    $0.kernel == benchmark.kernel && $0.variant == benchmark.variant
                        && $0.mode == benchmark.mode
                        && $0.shape == elsewhere && $0.naiveTimedAt == nil
                },
                "\(benchmark.name) names \(elsewhere)")
        }
    }
}
