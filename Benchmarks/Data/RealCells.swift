// The committed real cells: reads Benchmarks/Data/pbmc68k, whose SOURCE.md documents origin and format.

import Foundation

/// 700 peripheral blood cells with 765 genes, binned as scGPT bins them for training.
///
/// Helpers that turn cells into training batches and into what a model would output stand in
/// `TrainingBatch.swift` and `Embeddings.swift`.
package struct RealCells: Sendable {
    /// The number of cells.
    package let count: Int
    /// Bins, cells × genes, row-major: 0 where the gene was not detected, else 1 ... `binCount` − 1.
    package let values: [Float]
    /// The number of bins, the one for zero included.
    package let binCount: Int
    /// One symbol per gene.
    package let geneNames: [String]
    /// One label per cell: an index into `cellTypeNames`.
    package let cellTypes: [Int32]
    /// The distinct cell types, in alphabetical order.
    package let cellTypeNames: [String]
    /// One label per cell: the GEM well it was captured in, from 0. The data's nearest thing to a batch
    /// label.
    package let gemWells: [Int32]
    /// The number of distinct GEM wells.
    package let gemWellCount: Int

    /// The number of genes.
    package var geneCount: Int { geneNames.count }

    /// Reads the three files of `folder`.
    ///
    /// - Throws: ``RealCellsError``, which names the file, the line and what was expected.
    package init(folder: URL) throws(RealCellsError) {
        let expression = try Self.lines(of: "expression.txt", in: folder)
        let (cells, genes, bins) = try Self.header(expression.first ?? "")
        guard expression.count == cells + 1 else {
            throw .wrongLineCount(file: "expression.txt", expected: cells + 1, found: expression.count)
        }
        count = cells
        binCount = bins
        values = try Self.bins(of: expression.dropFirst(), genes: genes, bins: bins)

        geneNames = try Self.lines(of: "genes.txt", in: folder)
        guard geneNames.count == genes else {
            throw .wrongLineCount(file: "genes.txt", expected: genes, found: geneNames.count)
        }

        let annotations = try Self.lines(of: "cells.tsv", in: folder)
        guard annotations.count == cells + 1 else {
            throw .wrongLineCount(file: "cells.tsv", expected: cells + 1, found: annotations.count)
        }
        var typeOfCell: [String] = []
        var wellOfCell: [Int] = []
        for (line, text) in annotations.enumerated().dropFirst() {
            let fields = text.split(separator: "\t", omittingEmptySubsequences: false)
            guard fields.count == 3, let well = Int(fields[2]) else {
                throw .malformedLine(
                    file: "cells.tsv", line: line + 1, expected: "barcode, cell type, GEM well")
            }
            typeOfCell.append(String(fields[1]))
            wellOfCell.append(well)
        }
        (cellTypes, cellTypeNames) = Self.labels(typeOfCell)
        let wells: [Int]
        (gemWells, wells) = Self.labels(wellOfCell)
        gemWellCount = wells.count
    }

    /// Reads the data that is built into this program.
    package static func bundled() throws(RealCellsError) -> RealCells {
        try RealCells(folder: Bundle.module.bundleURL.appending(path: "pbmc68k"))
    }

    /// The symbols of the bins in `expression.txt`, the bin being the position.
    private static let alphabet = Array("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmno".utf8)

    private static func lines(of file: String, in folder: URL) throws(RealCellsError) -> [String] {
        let url = folder.appending(path: file)
        let text: String
        do {
            text = try String(contentsOf: url, encoding: .utf8)
        } catch {
            throw .unreadableFile(path: url.path, reason: error.localizedDescription)
        }
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
        return lines
    }

    private static func header(_ line: String) throws(RealCellsError) -> (cells: Int, genes: Int, bins: Int) {
        let words = line.split(separator: " ")
        guard words.count == 6, words[0] == "cells", words[2] == "genes", words[4] == "bins",
            let cells = Int(words[1]), let genes = Int(words[3]), let bins = Int(words[5]),
            cells > 0, genes > 0, (1...alphabet.count).contains(bins)
        else {
            throw .malformedLine(
                file: "expression.txt", line: 1,
                expected: "'cells N genes N bins N' with at most \(alphabet.count) bins")
        }
        return (cells, genes, bins)
    }

    private static func bins(
        of lines: ArraySlice<String>, genes: Int, bins: Int
    ) throws(RealCellsError) -> [Float] {
        var binOfSymbol = [UInt8: Float]()
        for (bin, symbol) in alphabet.prefix(bins).enumerated() { binOfSymbol[symbol] = Float(bin) }
        var values: [Float] = []
        values.reserveCapacity(lines.count * genes)
        for (line, text) in zip(lines.indices, lines) {
            guard text.utf8.count == genes else {
                throw .malformedLine(file: "expression.txt", line: line + 1, expected: "\(genes) characters")
            }
            for symbol in text.utf8 {
                guard let bin = binOfSymbol[symbol] else {
                    throw .malformedLine(
                        file: "expression.txt", line: line + 1, expected: "bins below \(bins) only")
                }
                values.append(bin)
            }
        }
        return values
    }

    /// The distinct names in order, and for each cell the index of its name.
    private static func labels<Name: Hashable & Comparable>(
        _ names: [Name]
    ) -> (labels: [Int32], names: [Name]) {
        let distinct = Set(names).sorted()
        let index = Dictionary(uniqueKeysWithValues: zip(distinct, Int32(0)...))
        return (names.map { index[$0]! }, distinct)
    }
}

/// Why the real cells cannot be read.
package enum RealCellsError: Error, Equatable, CustomStringConvertible {
    /// The file is missing or not text.
    case unreadableFile(path: String, reason: String)
    /// The file is cut short, or does not belong to the others.
    case wrongLineCount(file: String, expected: Int, found: Int)
    /// A line is not what the format says. Lines count from 1.
    case malformedLine(file: String, line: Int, expected: String)

    package var description: String {
        switch self {
        case .unreadableFile(let path, let reason):
            "cannot read \(path): \(reason)"
        case .wrongLineCount(let file, let expected, let found):
            "\(file) has \(found) lines, expected \(expected)"
        case .malformedLine(let file, let line, let expected):
            "\(file), line \(line): expected \(expected)"
        }
    }
}
