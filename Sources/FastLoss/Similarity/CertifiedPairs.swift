// Σ (S_ij − β)² and its gradient over the pairs of blocks whose similarities have one proved sign, without
// any similarity.

import CFastLossKernels

/// The part of elastic cell similarity that needs no similarities.
///
/// Blocks whose similarities are positive with each other form a group; two groups whose blocks are positive
/// with each other are partners. With μ the mean of a group's n rows and G = Σ p_iᵀp_i of their differences
/// p_i = n_i − μ to it, a group a and its partner b have
///
///     Σ_ij (S_ij − β)² = n_a·n_b·(μ_a·μ_b − β)² + n_b·μ_b·G_a·μ_b + n_a·μ_a·G_b·μ_a + ⟨G_a, G_b⟩
///     Σ_j (S_ij − β) n_j = n_i·G_b + n_b·(n_i·μ_b − β)·μ_b
///
/// for the rows i of a and the rows j of b. No term is negative, so nothing cancels. Pairs of rows with
/// negative similarities add β² each. For all groups this takes B·D² flops for G, by its symmetry, and
/// 2·B·D² for the gradient. The article ElasticSimilarityInClosedForm derives the formulas and their errors.
struct CertifiedPairs {
    /// Rows for each column that a group and its partners need to be worth their matrices. For the value
    /// alone the tiles would take less time with fewer than 1.25.
    static let rowsPerColumn = 2

    /// The most groups: the memory of as many matrices.
    private static let mostGroups = 8

    /// The largest table of pairs of blocks has 16 MiB.
    private static let mostBlocks = 4096

    /// The side of a task's tile of G. A tile of 128 × 128 in float and in double, and the columns of a block
    /// of rows, stay in a second-level cache. Narrow matrices have smaller tiles, so that there are tasks for
    /// several workers.
    private static func tileSide(columns: Int) -> Int { columns <= 256 ? 64 : 128 }

    /// The rows of the gradient that are formed at a time. With H, 1 MiB for 512 columns, they and their
    /// embeddings stay in a second-level cache until they are carried back.
    private static let gradientRows = 64

    /// The most tiles of G of one task, neighbours in a row of tiles. The task subtracts the mean from a block of
    /// rows once for all of them. With their sums, 512 KiB, and the differences they stay in a second-level
    /// cache.
    private static let mostTiles = 4

    /// The group of a block that has none.
    private static let loose = Int32(-1)

    /// The scratch memory, for a batch that is large enough.
    struct Scratch {
        fileprivate let pairs: TilePairs
        fileprivate let columns: Int
        fileprivate let stride: Int
        fileprivate let groupsLimit: Int
        fileprivate let certificate: SignCertificate.Scratch
        fileprivate let groupOfBlock: ScratchArray<Int32>
        fileprivate let groupSum: ScratchArray<Double>
        fileprivate let means: ScratchArray<Float>
        fileprivate let matrices: ScratchArray<Float>
        fileprivate let partnerMatrix: ScratchArray<Float>
        fileprivate let rowDots: ScratchArray<Double>
        fileprivate let tiles: ScratchArray<Float>
        fileprivate let differencesCount: Int
        fileprivate let differences: ScratchArray<Float>
        fileprivate let tileSumsCount: Int
        fileprivate let tileSums: ScratchArray<Double>
        fileprivate let isReplaced: ScratchArray<Bool>
        fileprivate let isFinished: ScratchArray<Bool>

        /// Nil if no batch of this shape gains.
        init?(_ pairs: TilePairs, columns: Int, in layout: inout ScratchLayout) throws(LossError) {
            guard pairs.rows / rowsPerColumn >= columns, pairs.blocks <= mostBlocks else { return nil }
            self.pairs = pairs
            self.columns = columns
            stride = TileProducts.stride(forColumns: columns)
            groupsLimit = max(1, min(mostGroups, pairs.rows / (rowsPerColumn * columns)))
            let side = tileSide(columns: columns)
            certificate = try SignCertificate.Scratch(pairs, columns: columns, in: &layout)
            groupOfBlock = try layout.add(pairs.blocks, of: Int32.self)
            groupSum = try layout.add(columns, of: Double.self)
            means = try layout.add(2 * groupsLimit, by: columns, of: Float.self)
            let matrix = try MatrixShape(rows: columns, columns: stride).checkedCount()
            matrices = try layout.add(groupsLimit, by: matrix, of: Float.self)
            partnerMatrix = try layout.add(matrix, of: Float.self)
            rowDots = try layout.add(columns, of: Double.self)
            tiles = try layout.add(
                layout.workers, by: side * TileProducts.stride(forColumns: side), of: Float.self)
            differencesCount =
                try MatrixShape(rows: pairs.blockRows, columns: TileProducts.stride(forColumns: side))
                .checkedCount()
            differences = try layout.add(
                layout.workers, by: (mostTiles + 1) * differencesCount, of: Float.self)
            tileSumsCount = max(mostTiles * side * side, columns)
            tileSums = try layout.add(layout.workers, by: tileSumsCount, of: Double.self)
            isReplaced = try layout.add(pairs.blocks, by: pairs.blocks, of: Bool.self)
            isFinished = try layout.add(pairs.blocks, of: Bool.self)
        }

        /// Sums the rows of a block. Precedes ``CertifiedPairs/init(_:of:threshold:on:)``, for every block.
        func sum(_ block: Int, of rows: NormalizedRows, on execution: Execution) {
            certificate.sum(block, of: rows, on: execution)
        }
    }

    /// What the pairs contribute.
    struct Contribution {
        /// Σ (C_ij − β)² over the pairs, each in both orders.
        var sum = 0.0
        /// How many of the B² pairs they are.
        var pairs = 0
    }

    private let scratch: Scratch
    private let execution: Execution
    private let rows: NormalizedRows
    private let threshold: Double
    private let certificate: SignCertificate
    private let groupOfBlock: UnsafeMutablePointer<Int32>
    private let isReplaced: UnsafeMutablePointer<Bool>
    private let isFinished: UnsafeMutablePointer<Bool>
    private let matrices: UnsafeMutablePointer<Float>
    private let means: UnsafeMutablePointer<Float>
    private var groups = 0
    /// Of each group, its number of rows.
    private var rowCounts = InlineArray<8, Int>(repeating: 0)
    /// Of each group, the groups that it is positive with, itself included, as bits.
    private var partners = InlineArray<8, UInt8>(repeating: 0)

    /// Proves signs, and chooses the pairs of blocks to replace. The blocks' sums are there.
    init(_ scratch: Scratch, of rows: NormalizedRows, threshold: Float, on execution: Execution) {
        self.scratch = scratch
        self.execution = execution
        self.rows = rows
        self.threshold = Double(threshold)
        groupOfBlock = execution.pointer(scratch.groupOfBlock)
        isReplaced = execution.pointer(scratch.isReplaced)
        isFinished = execution.pointer(scratch.isFinished)
        matrices = execution.pointer(scratch.matrices)
        means = execution.pointer(scratch.means)
        certificate = SignCertificate(scratch.certificate, of: rows, on: execution)
        formGroups()
        findPartners()
        dropSmallGroups()
        chooseReplaced()
    }

    /// The pairs of blocks that need no similarities.
    var replaced: ReplacedTiles {
        ReplacedTiles(blocks: scratch.pairs.blocks, table: isReplaced, finished: isFinished)
    }

    private func rowCount(_ block: Int) -> Int { scratch.pairs.range(block).count }
}

// MARK: - Groups

extension CertifiedPairs {
    /// Puts each block into the first group whose blocks all are positive with it.
    private mutating func formGroups() {
        let blocks = scratch.pairs.blocks
        for block in 0..<blocks {
            groupOfBlock[block] = Self.loose
            guard certificate[block, block] == .positive else { continue }
            let group = (0..<groups).first { group in
                (0..<block).allSatisfy {
                    groupOfBlock[$0] != Int32(group) || certificate[$0, block] == .positive
                }
            }
            guard let chosen = group ?? (groups < scratch.groupsLimit ? groups : nil) else { continue }
            groups = max(groups, chosen + 1)
            groupOfBlock[block] = Int32(chosen)
            rowCounts[chosen] += rowCount(block)
        }
    }

    private mutating func findPartners() {
        let all = groups == 8 ? UInt8.max : UInt8(1 << groups) - 1
        for group in 0..<groups { partners[group] = all }
        for first in 0..<scratch.pairs.blocks where groupOfBlock[first] != Self.loose {
            for second in first..<scratch.pairs.blocks where groupOfBlock[second] != Self.loose {
                guard certificate[first, second] != .positive else { continue }
                let (one, other) = (Int(groupOfBlock[first]), Int(groupOfBlock[second]))
                partners[one] &= ~(1 << UInt8(other))
                partners[other] &= ~(1 << UInt8(one))
            }
        }
    }

    private func isPartner(_ group: Int, of other: Int) -> Bool { partners[other] >> UInt8(group) & 1 == 1 }

    private func partnerRows(_ group: Int) -> Int {
        (0..<groups).reduce(0) { isPartner($1, of: group) ? $0 + rowCounts[$1] : $0 }
    }

    /// Dissolves the groups that the tiles compute in less time. A group that goes takes rows from its
    /// partners.
    private mutating func dropSmallGroups() {
        var changes = true
        while changes {
            changes = false
            for group in 0..<groups where rowCounts[group] > 0 {
                guard partnerRows(group) < Self.rowsPerColumn * scratch.columns else { continue }
                for block in 0..<scratch.pairs.blocks where groupOfBlock[block] == Int32(group) {
                    groupOfBlock[block] = Self.loose
                }
                rowCounts[group] = 0
                partners[group] = 0
                for other in 0..<groups { partners[other] &= ~(1 << UInt8(group)) }
                changes = true
            }
        }
    }

    private func chooseReplaced() {
        let blocks = scratch.pairs.blocks
        for first in 0..<blocks {
            for second in first..<blocks {
                let (one, other) = (groupOfBlock[first], groupOfBlock[second])
                let areInPartners =
                    one != Self.loose && other != Self.loose && isPartner(Int(one), of: Int(other))
                isReplaced[first * blocks + second] =
                    areInPartners || certificate[first, second] == .negative
            }
        }
        for block in 0..<blocks {
            isFinished[block] =
                groupOfBlock[block] != Self.loose
                && (0..<blocks).allSatisfy { replaced[min($0, block), max($0, block)] }
        }
    }
}

// MARK: - The closed form

extension CertifiedPairs {
    /// The contribution of the replaced pairs. Nil if there are none, or if the loss would lose digits.
    ///
    /// Forms Σ_j (C_ij − β) n_j over them in `gradient`, for every row of the batch, and carries it back where
    /// it is complete. A multiple of n_i is not formed, because it vanishes when the gradient is carried back.
    func contribution(gradient: UnitGradient?) -> Contribution? {
        var result = Contribution()
        let blocks = scratch.pairs.blocks
        for first in 0..<blocks {
            for second in first..<blocks where replaced[first, second] {
                let pairs = rowCount(first) * rowCount(second) * (first == second ? 1 : 2)
                result.pairs += pairs
                if certificate[first, second] == .negative {
                    result.sum += threshold * threshold * Double(pairs)
                }
            }
        }
        guard result.pairs > 0 else { return nil }

        for group in 0..<groups where rowCounts[group] > 0 { formMean(group) }
        formMatrices()
        var spread = 0.0
        for group in 0..<groups where rowCounts[group] > 0 {
            let terms = terms(of: group)
            // The diagonal counts β² and not (S_ii − β)², with S_ii = 1.
            result.sum += terms.ofMeans + terms.ofMatrices - Double(rowCounts[group]) * (1 - 2 * threshold)
            spread += terms.ofMatrices
        }
        guard keepsDigits(result, spread: spread) else { return nil }
        guard let gradient else { return result }
        for group in 0..<groups where rowCounts[group] > 0 { formGradient(group, gradient) }
        for block in 0..<blocks where groupOfBlock[block] == Self.loose {
            let range = scratch.pairs.range(block)
            gradient.place(range.lowerBound, worker: 0).update(
                repeating: 0, count: range.count * gradient.stride)
        }
        return result
    }

    /// The relative error of the terms of G, which are sums in float.
    private static let relativeError = 0x1p-22

    /// Whether the loss keeps its relative error of 10⁻⁶, whatever the other pairs contribute.
    private func keepsDigits(_ closed: Contribution, spread: Double) -> Bool {
        let pairs = Double(scratch.pairs.rows) * Double(scratch.pairs.rows)
        let largest = max(threshold * threshold, (1 - threshold) * (1 - threshold))
        let others = (pairs - Double(closed.pairs)) * largest
        let (most, least) = (1 - closed.sum / pairs, 1 - (closed.sum + others) / pairs)
        guard most * least > 0 else { return false }
        return Self.relativeError * spread / pairs <= 0.5e-6 * min(abs(most), abs(least))
    }
}

// MARK: - Matrices

extension CertifiedPairs {
    private func matrix(_ group: Int) -> UnsafeMutablePointer<Float> {
        matrices + group * scratch.columns * scratch.stride
    }

    /// μ of a group, rounded to float.
    private func mean(_ group: Int) -> UnsafeMutablePointer<Float> { means + 2 * group * scratch.columns }

    /// What the rounding of μ left.
    private func rest(_ group: Int) -> UnsafeMutablePointer<Float> { mean(group) + scratch.columns }

    /// n·μ − β for a row n, in double: where it is near 0, the rounding of μ would show.
    private func excess(_ row: UnsafePointer<Float>, over group: Int) -> Double {
        kernels.dot(row, mean(group), scratch.columns) + kernels.dot(row, rest(group), scratch.columns)
            - threshold
    }

    private func formMean(_ group: Int) {
        let (columns, sum) = (scratch.columns, execution.pointer(scratch.groupSum))
        let (mean, rest) = (mean(group), rest(group))
        sum.update(repeating: 0, count: columns)
        for block in 0..<scratch.pairs.blocks where groupOfBlock[block] == Int32(group) {
            let part = certificate.sum(ofBlock: block)
            for column in 0..<columns { sum[column] += part[column] }
        }
        for column in 0..<columns {
            let exact = sum[column] / Double(rowCounts[group])
            mean[column] = Float(exact)
            rest[column] = Float(exact - Double(mean[column]))
        }
    }

    /// G of every group: its upper triangle in tiles, mirrored. Each element is summed in float over a block
    /// of rows and in double over the blocks.
    private func formMatrices() {
        let (columns, side) = (scratch.columns, Self.tileSide(columns: scratch.columns))
        let across = (columns + side - 1) / side
        let longest = tilesPerTask
        // Runs of each row of tiles: a task that has none returns.
        let runs = (across + longest - 1) / longest
        let cost =
            TileProducts.nanoseconds(rows: columns, columns: columns, depth: scratch.pairs.rows) / 2
        execution.forEachTask(groups * across * runs, estimatedNanoseconds: cost) { task, worker in
            let (place, group) = task.quotientAndRemainder(dividingBy: groups)
            let (row, run) = place.quotientAndRemainder(dividingBy: runs)
            let first = row + run * longest
            guard rowCounts[group] > 0, first < across else { return }
            formTiles(row: row, first..<min(across, first + longest), group: group, worker: worker)
        }
    }

    /// Fewer for many workers, so that each has some tasks. How tiles are put together changes no sum.
    private var tilesPerTask: Int {
        let formed = (0..<groups).count { rowCounts[$0] > 0 }
        return min(Self.mostTiles, max(1, 2 * Self.mostTiles * formed / execution.workers))
    }

    /// The columns of a row or a column of tiles.
    private func tileColumns(_ index: Int) -> Range<Int> {
        let side = Self.tileSide(columns: scratch.columns)
        return index * side..<min(scratch.columns, (index + 1) * side)
    }

    /// Some neighbouring tiles in a row of tiles of G.
    private func formTiles(row: Int, _ tiles: Range<Int>, group: Int, worker: Int) {
        let side = Self.tileSide(columns: scratch.columns)
        let sums = execution.pointer(scratch.tileSums) + worker * scratch.tileSumsCount
        sums.update(repeating: 0, count: tiles.count * side * side)
        for block in 0..<scratch.pairs.blocks where groupOfBlock[block] == Int32(group) {
            let block = rows.block(scratch.pairs.range(block))
            let left = differences(block, tileColumns(row), group: group, worker: worker, place: 0)
            for (place, column) in tiles.enumerated() {
                let right =
                    column == row
                    ? left
                    : differences(block, tileColumns(column), group: group, worker: worker, place: place + 1)
                addTile(
                    left, right, isDiagonal: column == row, to: sums + place * side * side, worker: worker)
            }
        }
        for (place, column) in tiles.enumerated() {
            writeTile(
                tileColumns(row), tileColumns(column), of: group, from: sums + place * side * side)
        }
    }

    /// Adds the products of a block's columns to a tile's sums.
    private func addTile(
        _ left: MatrixPointer, _ right: MatrixPointer, isDiagonal: Bool,
        to sums: UnsafeMutablePointer<Double>, worker: Int
    ) {
        let side = Self.tileSide(columns: scratch.columns)
        let tileStride = TileProducts.stride(forColumns: side)
        let tile = execution.pointer(scratch.tiles) + worker * side * tileStride
        // On the diagonal, the lower half of the rows has only the columns of its own square.
        for part in Swift.stride(from: 0, to: left.columns, by: isDiagonal ? side / 2 : side) {
            let rows = part..<min(left.columns, part + (isDiagonal ? side / 2 : side))
            let start = isDiagonal ? part : 0
            TileProducts.multiplyTransposedLeft(
                left.columns(rows), right.columns(start..<right.columns),
                into: tile + part * tileStride + start, stride: tileStride)
            for row in rows {
                kernels.add_rows(
                    tile + row * tileStride + start, 1, right.columns - start, tileStride,
                    sums + row * side + start)
            }
        }
    }

    /// Rounds a tile's sums to G, and mirrors them.
    private func writeTile(
        _ first: Range<Int>, _ second: Range<Int>, of group: Int, from sums: UnsafePointer<Double>
    ) {
        let side = Self.tileSide(columns: scratch.columns)
        let (matrix, stride) = (matrix(group), scratch.stride)
        for row in 0..<first.count {
            let target = matrix + (first.lowerBound + row) * stride
            for column in 0..<second.count {
                target[second.lowerBound + column] = Float(sums[row * side + column])
            }
            if second.upperBound == scratch.columns {
                // Zero the padding: the kernel loads it and discards the result.
                (target + scratch.columns).update(repeating: 0, count: stride - scratch.columns)
            }
        }
        guard first != second else {
            for row in first {
                for column in first.lowerBound..<row {
                    matrix[row * stride + column] = matrix[column * stride + row]
                }
            }
            return
        }
        kernels.transpose(
            matrix + first.lowerBound * stride + second.lowerBound, first.count, second.count, stride,
            matrix + second.lowerBound * stride + first.lowerBound, stride)
    }

    /// Some columns of a block of rows, minus those of the group's mean.
    private func differences(
        _ block: MatrixPointer, _ columns: Range<Int>, group: Int, worker: Int, place: Int
    ) -> MatrixPointer {
        let stride = TileProducts.stride(forColumns: Self.tileSide(columns: scratch.columns))
        let base =
            execution.pointer(scratch.differences)
            + (worker * (Self.mostTiles + 1) + place) * scratch.differencesCount
        kernels.subtract_row(
            block.base + columns.lowerBound, block.rows, columns.count, block.stride,
            mean(group) + columns.lowerBound, base, stride)
        return MatrixPointer(base, rows: block.rows, columns: columns.count, stride: stride)
    }

    /// A group's share of the value: the terms of the means alone, and those of the matrices.
    private func terms(of group: Int) -> (ofMeans: Double, ofMatrices: Double) {
        let (columns, stride) = (scratch.columns, scratch.stride)
        let (own, dots) = (matrix(group), execution.pointer(scratch.rowDots))
        forEachRowOfMatrix { row, _ in
            var dot = 0.0
            for partner in 0..<groups where isPartner(partner, of: group) {
                // μ_b·G_a·μ_b twice: the other one is that of the pair (b, a).
                dot +=
                    2 * Double(rowCounts[partner]) * Double(mean(partner)[row])
                    * kernels.dot(own + row * stride, mean(partner), columns)
                    + kernels.dot(own + row * stride, matrix(partner) + row * stride, columns)
            }
            dots[row] = dot
        }
        var ofMeans = 0.0
        for partner in 0..<groups where isPartner(partner, of: group) {
            let excess =
                excess(mean(group), over: partner) + kernels.dot(rest(group), mean(partner), columns)
            ofMeans += Double(rowCounts[group]) * Double(rowCounts[partner]) * excess * excess
        }
        return (ofMeans, (0..<columns).reduce(0) { $0 + dots[$1] })
    }

    /// H, the sum of G over the partners of a group, in float.
    private func partnerMatrix(_ group: Int) -> MatrixPointer {
        let (columns, stride) = (scratch.columns, scratch.stride)
        guard partners[group] != 1 << UInt8(group) else {
            return MatrixPointer(matrix(group), rows: columns, columns: columns, stride: stride)
        }
        let sum = execution.pointer(scratch.partnerMatrix)
        forEachRowOfMatrix { row, worker in
            let target = sum + row * stride
            let buffer = execution.pointer(scratch.tileSums) + worker * scratch.tileSumsCount
            buffer.update(repeating: 0, count: columns)
            for partner in 0..<groups where isPartner(partner, of: group) {
                kernels.add_rows(matrix(partner) + row * stride, 1, columns, stride, buffer)
            }
            for column in 0..<columns { target[column] = Float(buffer[column]) }
            // Zero the padding: the kernel loads it and discards the result.
            (target + columns).update(repeating: 0, count: stride - columns)
        }
        return MatrixPointer(sum, rows: columns, columns: columns, stride: stride)
    }

    /// Shares the rows of a matrix of D×D among the workers.
    private func forEachRowOfMatrix(_ body: (_ row: Int, _ worker: Int) -> Void) {
        let (columns, perTask) = (scratch.columns, 16)
        let cost = 2 * Double(columns) * Double(columns)
        execution.forEachTask((columns + perTask - 1) / perTask, estimatedNanoseconds: cost) { task, worker in
            for row in task * perTask..<min(columns, (task + 1) * perTask) { body(row, worker) }
        }
    }
}

// MARK: - Gradient

extension CertifiedPairs {
    /// Σ_b n_b·(n_i·μ_b − β)·μ_b + n_i·H for the rows of a group, with H the sum of G over its partners b.
    /// Carries rows back while they are in cache, if no other pair adds to them.
    private func formGradient(_ group: Int, _ gradient: UnitGradient) {
        let columns = scratch.columns
        let factor = partnerMatrix(group)
        let cost = TileProducts.nanoseconds(rows: rowCounts[group], columns: columns, depth: columns)
        execution.forEachTask(scratch.pairs.blocks, estimatedNanoseconds: cost) { block, worker in
            guard groupOfBlock[block] == Int32(group) else { return }
            let range = scratch.pairs.range(block)
            for first in Swift.stride(from: range.lowerBound, to: range.upperBound, by: Self.gradientRows) {
                let part = first..<min(range.upperBound, first + Self.gradientRows)
                formGradient(part, group, factor, gradient, worker: worker)
                if isFinished[block] { gradient.carryBack(part, through: rows, worker: worker) }
            }
        }
    }

    private func formGradient(
        _ part: Range<Int>, _ group: Int, _ factor: MatrixPointer, _ gradient: UnitGradient, worker: Int
    ) {
        let (source, target) = (rows.block(part), gradient.place(part.lowerBound, worker: worker))
        for row in 0..<part.count {
            var mode = FASTLOSS_OVERWRITE
            for partner in 0..<groups where isPartner(partner, of: group) {
                let excess = excess(source.base + row * source.stride, over: partner)
                kernels.scale(
                    mean(partner), scratch.columns, Double(rowCounts[partner]) * excess,
                    target + row * gradient.stride, mode)
                mode = FASTLOSS_ACCUMULATE
            }
        }
        TileProducts.multiply(source, factor, into: target, stride: gradient.stride, accumulates: true)
    }
}
