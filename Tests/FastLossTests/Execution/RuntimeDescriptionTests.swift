// What the process says about itself: above all, which BLAS is live.

import FastLoss
import Foundation
import Testing

@Suite struct RuntimeDescriptionTests {
    let description = RuntimeDescription.current

    /// OpenBLAS's own file: the `libblas` alternative, which any BLAS may stand behind, would be called
    /// libblas.so.3.
    @Test func blasIsOpenBLASItself() {
        let file = description.blasLibrary.split(separator: "/").last.map(String.init) ?? ""
        #expect(file.hasPrefix("libopenblas"), "cblas_sgemm comes from \(description.blasLibrary)")
        #expect(description.blasConfiguration.hasPrefix("OpenBLAS "))
        #expect(!description.blasCore.isEmpty)
    }

    @Test func blasRunsOneThreadUnlessToldOtherwise() {
        guard ProcessInfo.processInfo.environment["FASTLOSS_KEEP_BLAS_THREADS"] != "1" else { return }
        #expect(description.blasThreads == 1)
    }

    @Test func agreesWithItsParts() {
        #expect(description.instructionSet == .active)
        #expect(description.requestedInstructionSet == InstructionSet.requested)
        #expect(description.workers == Workspace.defaultWorkers)
        #expect(description.version.split(separator: ".").count == 3)
        #expect(description == .current)
    }

    /// Threads that ask at the same time get the same answer: OpenBLAS's own text is put together anew at
    /// every question.
    @Test func isTheSameForEveryThread() async {
        let description = description
        let disagreements = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<8 {
                group.addTask { (0..<2_000).count { _ in RuntimeDescription.current != description } }
            }
            return await group.reduce(0, +)
        }
        #expect(disagreements == 0)
    }

    @Test func saysEverythingInWords() {
        var shown = description
        shown.instructionSet = .avx2
        shown.workers = 7
        for (requested, text) in [
            (nil, "kernels avx2, 7 workers"), ("avx2", "kernels avx2 (forced by FASTLOSS_ISA), 7 workers"),
            ("avx1024", "kernels avx2 (FASTLOSS_ISA=avx1024 is not available), 7 workers"),
        ] {
            shown.requestedInstructionSet = requested
            let words = "\(shown)"
            #expect(words.hasPrefix("FastLoss \(shown.version), \(text)\n"))
            for part in [shown.blasConfiguration, shown.blasCore, shown.blasLibrary] {
                #expect(words.contains(part))
            }
        }
        for (requested, text) in [(nil, ", "), ("Haswell", " (forced by OPENBLAS_CORETYPE), ")] {
            shown.requestedBLASCore = requested
            #expect("\(shown)".contains("core \(shown.blasCore)\(text)"))
        }
    }
}
