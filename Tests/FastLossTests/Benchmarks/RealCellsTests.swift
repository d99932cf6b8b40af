// The committed cells, and the errors of their loader.

import BenchmarkData
import Benchmarks
import Foundation
import Testing

@Suite struct RealCellsTests {
    @Test func `the committed data is complete`() throws {
        let cells = try RealCells.bundled()
        #expect(cells.count == 700)
        #expect(cells.geneCount == 765)
        #expect(cells.values.count == 700 * 765)
        #expect(cells.binCount == 51)
        #expect(cells.values.allSatisfy { $0 == $0.rounded() && (0...50).contains($0) })
        #expect(cells.values.max() == 50)
        #expect(Set(cells.geneNames).count == 765)
        #expect(cells.cellTypeNames.count == 10)
        #expect(cells.gemWellCount == 8)
        #expect(Set(cells.cellTypes) == Set(0..<10))
        #expect(Set(cells.gemWells) == Set(0..<8))
        #expect(cells.cellTypes.count == 700 && cells.gemWells.count == 700)
    }

    @Test func `known values stand where the source has them`() throws {
        let cells = try RealCells.bundled()
        // Counted by NumPy in the source, .raw.X of scanpy's pbmc68k_reduced.
        #expect(cells.values.count { $0 > 0 } == 174_400)
        let dendritic = try #require(cells.cellTypeNames.firstIndex(of: "Dendritic"))
        #expect(cells.cellTypes.count { $0 == Int32(dendritic) } == 240)
        #expect(cells.geneNames.first == "HES4")
        #expect(cells.cellTypeNames[Int(cells.cellTypes[0])] == "CD14+ Monocyte")
    }

    @Test func `the non-zero bins of a cell are quantiles: evenly filled`() throws {
        let cells = try RealCells.bundled()
        var filled = [Int](repeating: 0, count: 51)
        for value in cells.values { filled[Int(value)] += 1 }
        let expected = Double(filled[1...].reduce(0, +)) / 50
        // A bin holds about 3,500 values; ties of high counts make the upper bins up to an eighth uneven.
        for bin in 1..<50 { #expect(abs(Double(filled[bin]) / expected - 1) < 0.15, "bin \(bin)") }
        // Only the largest value of a cell reaches the last bin, which is the upper end of the last quantile.
        #expect(filled[50] >= 700)
    }

    @Test(arguments: Malformation.all)
    func `malformed data is refused with file and line`(malformation: Malformation) throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        var files = [
            "expression.txt": "cells 2 genes 3 bins 51\n0Ao\n102\n",
            "genes.txt": "A\nB\nC\n",
            "cells.tsv": "barcode\tcell_type\tgem_well\nX-1\tT\t1\nY-3\tB\t3\n",
        ]
        func write() throws {
            for (name, text) in files { try Data(text.utf8).write(to: folder.appending(path: name)) }
        }
        try write()
        let sound = try RealCells(folder: folder)
        #expect(sound.values == [0, 10, 50, 1, 0, 2])
        #expect(sound.cellTypes == [1, 0] && sound.cellTypeNames == ["B", "T"])
        #expect(sound.gemWells == [0, 1])

        files[malformation.file] = malformation.text
        try write()
        #expect {
            try RealCells(folder: folder)
        } throws: {
            "\($0)" == malformation.message
        }
    }

    @Test func `a missing file is named`() {
        #expect {
            try RealCells(folder: URL(filePath: "/nonexistent"))
        } throws: {
            "\($0)".hasPrefix("cannot read /nonexistent/expression.txt: ")
        }
    }

    struct Malformation: CustomTestStringConvertible {
        let file: String
        let text: String
        let message: String

        var testDescription: String { message }

        static let all = [
            Malformation(
                file: "expression.txt", text: "cells 2 genes 3\n",
                message: "expression.txt, line 1: expected 'cells N genes N bins N' with at most 51 bins"),
            Malformation(
                file: "expression.txt", text: "cells 2 genes 3 bins 51\n000\n",
                message: "expression.txt has 2 lines, expected 3"),
            Malformation(
                file: "expression.txt", text: "cells 2 genes 3 bins 51\n000\n0000\n",
                message: "expression.txt, line 3: expected 3 characters"),
            Malformation(
                file: "expression.txt", text: "cells 2 genes 3 bins 10\n000\n00A\n",
                message: "expression.txt, line 3: expected bins below 10 only"),
            Malformation(file: "genes.txt", text: "A\nB\n", message: "genes.txt has 2 lines, expected 3"),
            Malformation(
                file: "cells.tsv", text: "h\nX-1\tT\t1\n", message: "cells.tsv has 2 lines, expected 3"),
            Malformation(
                file: "cells.tsv", text: "h\nX-1\tT\t1\nY-1\tT\n",
                message: "cells.tsv, line 3: expected barcode, cell type, GEM well"),
        ]
    }
}
