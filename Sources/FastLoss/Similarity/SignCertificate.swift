// Proves, in O(B·D) and without computing a similarity, that all similarities of two blocks of rows have one
// sign.

import CFastLossKernels

/// The signs of the similarities of a batch with itself, for each pair of row blocks, as far as they can be
/// proved.
///
/// A block has a direction u, and every row of it lies within an angle α of u. If the directions of two
/// blocks enclose γ, a row of one and a row of the other enclose at least γ − α₁ − α₂ and at most γ + α₁ +
/// α₂. So
///
///     γ + α₁ + α₂ < 90°   proves that every similarity is positive,
///     γ − α₁ − α₂ > 90°   proves that every similarity is negative.
///
/// The direction is the mean of the whole batch, or the mean of the block where that does not suffice. A
/// block with a row beyond 45° of it, with a row below the floor of the norms or with NaN has no proof with
/// any block. The article ElasticSimilarityInClosedForm has the proof, rounding included.
package struct SignCertificate {
    /// What is proved about a pair of blocks.
    package enum Signs: UInt8 {
        case unknown, positive, negative
    }

    /// The scratch memory of a certificate.
    package struct Scratch {
        fileprivate let pairs: TilePairs
        fileprivate let columns: Int
        fileprivate let sums: ScratchArray<Double>
        fileprivate let directions: ScratchArray<Float>
        fileprivate let cones: ScratchArray<Cone>
        fileprivate let signs: ScratchArray<UInt8>

        package init(_ pairs: TilePairs, columns: Int, in layout: inout ScratchLayout) throws(LossError) {
            self.pairs = pairs
            self.columns = columns
            sums = try layout.add(pairs.blocks + 1, by: columns, of: Double.self)
            directions = try layout.add(pairs.blocks + 1, by: columns, of: Float.self)
            cones = try layout.add(pairs.blocks, of: Cone.self)
            signs = try layout.add(pairs.blocks, by: pairs.blocks, of: UInt8.self)
        }

        /// Sums the rows of a block. Precedes ``SignCertificate/init(_:of:on:)``, for every block.
        func sum(_ block: Int, of rows: NormalizedRows, on execution: Execution) {
            let sum = execution.pointer(sums) + block * columns
            let block = rows.block(pairs.range(block))
            sum.update(repeating: 0, count: columns)
            kernels.add_rows(block.base, block.rows, columns, block.stride, sum)
        }
    }

    /// The rows of a block: no angle with the direction has a cosine below `cosine`.
    fileprivate struct Cone: BitwiseCopyable {
        /// 0 if no proof is possible.
        var cosine: Double
        /// The number of the direction: the block's own, or that of the batch, which follows the blocks'.
        var direction: Int
        /// The length of the direction, which is rounded to float.
        var length: Double
    }

    private let scratch: Scratch
    private let sums: UnsafeMutablePointer<Double>
    private let directions: UnsafeMutablePointer<Float>
    private let cones: UnsafeMutablePointer<Cone>
    private let signs: UnsafeMutablePointer<UInt8>

    /// Proves what it can, from the sums of the blocks.
    package init(_ scratch: Scratch, of rows: NormalizedRows, on execution: Execution) {
        self.scratch = scratch
        sums = execution.pointer(scratch.sums)
        directions = execution.pointer(scratch.directions)
        cones = execution.pointer(scratch.cones)
        signs = execution.pointer(scratch.signs)
        let (pairs, blocks) = (scratch.pairs, scratch.pairs.blocks)
        // A pass over the rows, of about a tenth of a nanosecond an element.
        let cost = Double(pairs.rows) * Double(scratch.columns) / 8
        sumBlocks()
        let batchLength = makeDirection(blocks)
        let isBatchNarrow = isNarrow(blocks, rows: pairs.rows)
        execution.forEachTask(blocks, estimatedNanoseconds: cost) { [self] block, _ in
            cones[block] = cone(
                of: block, rows: rows, batchLength: isBatchNarrow ? batchLength : nil)
        }
        let products = Double(blocks) * Double(blocks) * Double(scratch.columns) / 16
        execution.forEachTask(blocks, estimatedNanoseconds: products) { [self] block, _ in
            prove(block)
        }
    }

    /// What is proved about two blocks.
    package subscript(first: Int, second: Int) -> Signs {
        let (low, high) = (min(first, second), max(first, second))
        return Signs(rawValue: signs[low * scratch.pairs.blocks + high]) ?? .unknown
    }

    /// Σ n_i of a block's rows.
    func sum(ofBlock block: Int) -> UnsafeMutablePointer<Double> { sums + block * scratch.columns }
}

// MARK: - Directions

extension SignCertificate {
    private func sumBlocks() {
        let (blocks, columns) = (scratch.pairs.blocks, scratch.columns)
        let total = sum(ofBlock: blocks)
        total.update(repeating: 0, count: columns)
        for block in 0..<blocks {
            let part = sum(ofBlock: block)
            for column in 0..<columns { total[column] += part[column] }
        }
    }

    /// Rounds a sum, scaled to length 1, to a direction. Returns the direction's length.
    private func makeDirection(_ index: Int) -> Double {
        let (sum, columns) = (sum(ofBlock: index), scratch.columns)
        let direction = directions + index * columns
        var squares = 0.0
        for column in 0..<columns { squares += sum[column] * sum[column] }
        let scale = 1 / squares.squareRoot()
        for column in 0..<columns { direction[column] = Float(sum[column] * scale) }
        return kernels.sum_of_squares(direction, columns).squareRoot()
    }

    /// Whether the rows' mean is long enough for all of them to lie within 45° of it: the mean of their
    /// cosines with it is its length.
    private func isNarrow(_ index: Int, rows: Int) -> Bool {
        let (sum, columns) = (sum(ofBlock: index), scratch.columns)
        var squares = 0.0
        for column in 0..<columns { squares += sum[column] * sum[column] }
        return squares >= 0.49 * Double(rows) * Double(rows)
    }

    /// The cone of a block, round the batch's direction if possible.
    private func cone(of block: Int, rows: NormalizedRows, batchLength: Double?) -> Cone {
        let range = scratch.pairs.range(block)
        // A raised norm is not projected out of the gradient, as the closed form supposes.
        guard range.allSatisfy({ rows.norms[$0] >= rows.floor.norm }) else {
            return Cone(cosine: 0, direction: block, length: 1)
        }
        if let batchLength {
            let cosine = leastCosine(range, of: rows, scratch.pairs.blocks, length: batchLength)
            if isCertified(cosine) {
                return Cone(cosine: cosine, direction: scratch.pairs.blocks, length: batchLength)
            }
        }
        guard isNarrow(block, rows: range.count) else { return Cone(cosine: 0, direction: block, length: 1) }
        let length = makeDirection(block)
        let cosine = leastCosine(range, of: rows, block, length: length)
        return Cone(cosine: isCertified(cosine) ? cosine : 0, direction: block, length: length)
    }

    /// Whether rows that have at least this cosine with a direction have positive similarities with each
    /// other.
    private func isCertified(_ cosine: Double) -> Bool {
        Self.signs(cosine, cosine, betweenDirections: 1, margin: Self.margin(columns: scratch.columns))
            == .positive
    }

    /// A lower bound of the rows' cosines with a direction; 0 if one is NaN or beyond 45°.
    private func leastCosine(
        _ range: Range<Int>, of rows: NormalizedRows, _ index: Int, length: Double
    ) -> Double {
        let (block, columns) = (rows.block(range), scratch.columns)
        let direction = UnsafePointer(directions + index * columns)
        var least = 1.0
        for row in 0..<block.rows {
            let cosine = kernels.dot(block.base + row * block.stride, direction, columns) / length
            // The comparison is false for NaN.
            guard cosine >= 0.7 else { return 0 }
            least = min(least, cosine)
        }
        return least - Self.lengthError
    }
}

// MARK: - Proofs

extension SignCertificate {
    /// More than the rounding of a row's elements adds to its length of 1.
    private static let lengthError = 0x1p-22

    /// The least magnitude of a similarity whose sign counts as proved: twice the largest error of a float
    /// sum of D products of unit vectors, and more than the errors of the proof itself.
    package static func margin(columns: Int) -> Double { Double(2 * columns + 64) * 0x1p-24 }

    /// The proof for two cones.
    ///
    /// - Parameters:
    ///   - first: cos α₁, α₁ ≤ 45°.
    ///   - second: cos α₂, α₂ ≤ 45°.
    ///   - betweenDirections: cos γ.
    ///   - margin: the least magnitude of a similarity whose sign counts as proved.
    package static func signs(
        _ first: Double, _ second: Double, betweenDirections: Double, margin: Double
    ) -> Signs {
        func sine(_ cosine: Double) -> Double { max(0, 1 - cosine * cosine).squareRoot() }
        let cosine = first * second - sine(first) * sine(second)
        let sineOfSum = sine(first) * second + first * sine(second)
        let (along, across) = (betweenDirections * cosine, sine(betweenDirections) * sineOfSum)
        // cos(γ + α₁ + α₂) and cos(γ − α₁ − α₂).
        if along - across >= margin { return .positive }
        if along + across <= -margin { return .negative }
        return .unknown
    }

    /// The proofs of a block with itself and with those after it.
    private func prove(_ block: Int) {
        let (blocks, columns) = (scratch.pairs.blocks, scratch.columns)
        let margin = Self.margin(columns: columns)
        let cone = cones[block]
        for other in block..<blocks {
            let partner = cones[other]
            var proof = Signs.unknown
            if cone.cosine > 0, partner.cosine > 0 {
                let between =
                    cone.direction == partner.direction
                    ? 1
                    : kernels.dot(
                        directions + cone.direction * columns, directions + partner.direction * columns,
                        columns) / (cone.length * partner.length)
                proof = Self.signs(
                    cone.cosine, partner.cosine, betweenDirections: between, margin: margin)
            }
            signs[block * blocks + other] = proof.rawValue
        }
    }
}
