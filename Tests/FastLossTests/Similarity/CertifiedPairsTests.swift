// The certificate of ECS: what it proves, and that the closed form equals the computed pairs and the oracle.

import FastLoss
import FastLossReference
import Foundation
import Testing

@Suite struct CertifiedPairsTests {
    /// Batches of five blocks of 220 rows, by where their rows point.
    enum Rows: CaseIterable, Sendable {
        /// All in a narrow or in a wide cone.
        case cone, wideCone, scaledCone
        /// One block along the axis, the others at 60° and against it.
        case clusters
        /// Blocks in turns along the axis and against it.
        case antipodes
        /// A cone, and one row against it, across it, zero, below the floor, or NaN.
        case opposite, orthogonal, zero, tiny
        /// Everywhere.
        case scattered

        static let rows = 1_100
        static let columns = 4
        static let shape = EmbeddingShape(rows: rows, columns: columns)

        /// The share of the pairs of blocks that have a proof.
        var certifiedBlockPairs: Int {
            switch self {
            case .cone, .wideCone, .scaledCone, .antipodes: 25
            // Two clusters of two blocks at 120°, and one at 60° of either.
            case .clusters: 25
            case .opposite, .orthogonal, .zero, .tiny: 16
            case .scattered: 0
            }
        }

        func make() -> [Float] {
            var random = RandomInputs(seed: 31)
            var result: [Float] = []
            for row in 0..<Self.rows {
                let block = row / 220
                var direction: [Double]
                switch self {
                case .clusters:
                    let angle = [0.0, 60, 60, 180, 180][block] * Double.pi / 180
                    direction = [cos(angle), sin(angle), 0, 0]
                case .antipodes: direction = [block % 2 == 0 ? 1 : -1, 0, 0, 0]
                case .scattered: direction = [0, 0, 0, 0]
                default: direction = [1, 0, 0, 0]
                }
                // Rows at most `spread` from the direction, so their angle is at most its arc sine.
                let spread = self == .wideCone ? 0.68 : self == .scattered ? 1 : 0.1
                let noise = (0..<Self.columns).map { _ in random.normal() }
                let length = self == .scattered ? 1 : noise.norm / random.uniform()
                let size = self == .scaledCone ? [1, 1e-9, 1e9][row % 3] : 1
                for column in 0..<Self.columns {
                    result.append(Float(size * (direction[column] + spread * noise[column] / length)))
                }
            }
            let place = 500 * Self.columns
            switch self {
            case .opposite: for k in place..<place + Self.columns { result[k] *= -1 }
            case .orthogonal: result.replaceSubrange(place..<place + 4, with: [0.001, 1, 0, 0])
            case .zero: for k in place..<place + Self.columns { result[k] = 0 }
            case .tiny: for k in place..<place + Self.columns { result[k] *= 1e-13 }
            default: break
            }
            return result
        }
    }

    static func loss(
        _ threshold: Float, _ certificate: ElasticCellSimilarity.Certificate = .automatic
    )
        -> ElasticCellSimilarity
    {
        ElasticCellSimilarity(threshold: threshold, certificate: certificate)
    }

    static func run(
        _ loss: ElasticCellSimilarity, _ embeddings: [Float], _ shape: MatrixShape = Rows.shape.matrix,
        addingTo initial: [Float]? = nil, workers: Int = 2
    ) throws -> (loss: LossValue, gradient: [Float]) {
        var gradient = initial ?? [Float](repeating: -12345, count: embeddings.count)
        var span = gradient.mutableSpan
        let value = try loss.valueAndGradient(
            embeddings: embeddings.span, shape: shape, gradient: &span,
            update: initial == nil ? .overwrite : .accumulate, workspace: Workspace(workers: workers))
        return (value, gradient)
    }

    // MARK: - Against the oracle

    @Test(arguments: Rows.allCases, [Float(-1), -0.5, 0, 0.3, 0.8])
    func oracleIsMatched(_ rows: Rows, threshold: Float) throws {
        let (embeddings, shape) = (rows.make(), Rows.shape)
        let result = try Self.run(Self.loss(threshold), embeddings)
        let value = try Self.loss(threshold).value(embeddings: embeddings, shape: shape.matrix)
        #expect(value == result.loss)
        let truth = Reference.ElasticCellSimilarity.evaluate(
            embeddings: embeddings.doubles, rows: shape.rows, columns: shape.columns,
            threshold: Double(threshold))
        let label = "\(rows), threshold \(threshold)"
        expectClose(result.loss.value, truth.value, Tolerances.embeddingValue, label)
        let yardstick = EmbeddingYardstick(
            embeddings: embeddings, columns: shape.columns, before: truth.normsBeforeProjection, floor: 1e-12)
        yardstick.expect(result.gradient, truth.gradient, label)
    }

    /// Similarities near the threshold, where ‖NᵀN‖², 2β‖Σn‖² and β²B² cancel.
    @Test(arguments: [Rows.cone, .wideCone, .clusters], [Float(0.75), 0.99, 0.9975, 1])
    func similaritiesNearTheThresholdKeepTheirDigits(_ rows: Rows, threshold: Float) throws {
        try oracleIsMatched(rows, threshold: threshold)
        let result = try Self.run(Self.loss(threshold), rows.make())
        #expect(result.loss.certifiedPairs == 25 * 220 * 220)
    }

    @Test(arguments: Rows.allCases)
    func certifiedPairsAreThoseOfProvedBlocks(_ rows: Rows) throws {
        let result = try Self.run(Self.loss(0.3), rows.make())
        #expect(result.loss.certifiedPairs == rows.certifiedBlockPairs * 220 * 220)
    }

    /// The closed form of the reference is that of the whole batch.
    @Test(arguments: [Rows.cone, .wideCone])
    func referenceHasTheSameClosedForm(_ rows: Rows) throws {
        let (embeddings, shape) = (rows.make(), Rows.shape)
        let result = try Self.run(Self.loss(0.3), embeddings)
        let truth = Reference.ElasticCellSimilarity.evaluateInClosedForm(
            embeddings: embeddings.doubles, rows: shape.rows, columns: shape.columns,
            threshold: Double(Float(0.3)))
        expectClose(result.loss.value, truth.value, Tolerances.embeddingValue, "\(rows)")
        expectNormwise(
            actual: result.gradient, oracle: truth.gradient, scale: truth.normsBeforeProjection.norm,
            tolerance: Tolerances.embeddingGradient, "\(rows)")
    }

    /// Widths that no panel and no tile of G divides, and more than one tile.
    @Test(arguments: [1, 2, 33, 65, 131, 300])
    func anyWidthMatchesTheComputedPairs(columns: Int) throws {
        var random = RandomInputs(seed: 32)
        let shape = MatrixShape(rows: 1_030, columns: columns)
        let centre = random.normals(columns, shift: 2)
        let embeddings = (0..<shape.rows * columns).map {
            (columns == 1 ? 2 : centre[$0 % columns]) + Float(0.1 * random.normal())
        }
        let closed = try Self.run(Self.loss(0.3), embeddings, shape)
        let computed = try Self.run(Self.loss(0.3, .never), embeddings, shape)
        #expect(closed.loss.certifiedPairs == shape.rows * shape.rows)
        #expect(computed.loss.certifiedPairs == 0)
        expectClose(closed.loss.value, computed.loss.value, Tolerances.embeddingValue, "\(columns)")
        // With one column the projection leaves rounding errors alone.
        guard columns > 1 else { return }
        expectNormwise(
            actual: closed.gradient, oracle: computed.gradient.doubles,
            tolerance: 2 * Tolerances.embeddingGradient, "\(columns)")
    }

    // MARK: - The margin

    /// Two directions that enclose a right angle, and a hair more or less, in the plane.
    @Test(arguments: [(45.0, false), (44.9999, false), (44.99, true), (45.01, false)])
    func rowsAtTheMargin(degrees: Double, isCertified: Bool) throws {
        let angle = degrees * Double.pi / 180
        let shape = MatrixShape(rows: 1_100, columns: 2)
        let embeddings = (0..<1_100).flatMap { row in
            [Float(cos(angle)), Float((row % 2 == 0 ? 1 : -1) * sin(angle))]
        }
        let result = try Self.run(Self.loss(0.3), embeddings, shape)
        let computed = try Self.run(Self.loss(0.3, .never), embeddings, shape)
        #expect((result.loss.certifiedPairs > 0) == isCertified)
        expectClose(result.loss.value, computed.loss.value, Tolerances.embeddingValue, "\(degrees)")
        if !isCertified {
            #expect(result.loss == computed.loss)
            expectSameBits(result.gradient, computed.gradient)
        }
    }

    /// Rows on a cone whose opposite rows enclose nearly a right angle, on either side of it: what is certified
    /// has no similarity that a product could round to 0 or below, and the result is that of the computed pairs.
    @Test(arguments: [2, 7, 33], 0..<12)
    func nothingNegativeIsCertified(columns: Int, seed: Int) throws {
        var random = RandomInputs(seed: UInt64(40 + seed))
        let (rows, half) = (1_100, 550)
        let axis = random.normals(columns).doubles
        let unit = axis.map { $0 / axis.norm }
        // From 45° − 10⁻¹ to 45° + 10⁻¹ in radians, closer to it with each seed.
        let angle = Double.pi / 4 + (seed % 2 == 0 ? -1 : 1) * pow(10, -1 - Double(seed / 2))
        var embeddings: [Float] = []
        for _ in 0..<half {
            var across = random.normals(columns).doubles
            let along = zip(across, unit).reduce(0) { $0 + $1.0 * $1.1 }
            across = zip(across, unit).map { $0 - along * $1 }
            let length = across.norm
            for side in [1.0, -1.0] {
                let scale = exp(Double(random.normal()))
                embeddings += zip(unit, across).map {
                    Float(scale * ($0 * cos(angle) + side * $1 / length * sin(angle)))
                }
            }
        }
        let shape = MatrixShape(rows: rows, columns: columns)
        let result = try Self.run(Self.loss(0.3), embeddings, shape)
        let computed = try Self.run(Self.loss(0.3, .never), embeddings, shape)
        if seed < 4 { #expect((result.loss.certifiedPairs > 0) == (seed % 2 == 0)) }
        expectClose(result.loss.value, computed.loss.value, Tolerances.embeddingValue, "\(seed)")
        guard result.loss.certifiedPairs > 0 else { return }
        let unitRows = Reference.CosineSimilarity.normalizedRows(
            embeddings: embeddings.doubles, rows: rows, columns: columns, floor: 1e-12
        ).normalized
        let margin = Double(columns) * 0x1p-24
        for row in 0..<rows {
            let opposite = row ^ 1
            let similarity = (0..<columns).reduce(0) {
                $0 + unitRows[row * columns + $1] * unitRows[opposite * columns + $1]
            }
            #expect(similarity > margin)
        }
    }

    /// The proof of two cones is that of their angles.
    @Test func signsFollowFromAngles() {
        var random = RandomInputs(seed: 33)
        let margin = SignCertificate.margin(columns: 512)
        var seen: Set<SignCertificate.Signs> = []
        for _ in 0..<2_000 {
            let (first, second) = (random.uniform() * Double.pi / 4, random.uniform() * Double.pi / 4)
            let between = random.uniform() * Double.pi
            let signs = SignCertificate.signs(
                cos(first), cos(second), betweenDirections: cos(between), margin: margin)
            seen.insert(signs)
            let (least, most) = (between - first - second, between + first + second)
            switch signs {
            case .positive: #expect(cos(most) >= margin && most < Double.pi / 2)
            case .negative: #expect(cos(least) <= -margin && least > Double.pi / 2)
            case .unknown:
                #expect(most > Double.pi / 2 - 2 * margin && least < Double.pi / 2 + 2 * margin)
            }
        }
        #expect(seen.count == 3)
    }

    // MARK: - Where it is not used

    @Test func nothingCertifiedGivesTheBitsOfTheComputedPairs() throws {
        let embeddings = Rows.scattered.make()
        let automatic = try Self.run(Self.loss(0.8), embeddings)
        let never = try Self.run(Self.loss(0.8, .never), embeddings)
        #expect(automatic.loss == never.loss)
        expectSameBits(automatic.gradient, never.gradient)
    }

    @Test(arguments: [(1_024, 4), (1_100, 551)])
    func batchesThatGainNothingAreComputed(rows: Int, columns: Int) throws {
        let embeddings = [Float](repeating: 1, count: rows * columns)
        let shape = MatrixShape(rows: rows, columns: columns)
        #expect(try Self.loss(0.3).value(embeddings: embeddings, shape: shape).certifiedPairs == 0)
    }

    /// A loss near 0 is the small difference of 1 and the mean over the pairs: the closed form would lose digits.
    @Test(arguments: [Rows.cone, .wideCone])
    func lossesNearZeroAreComputed(_ rows: Rows) throws {
        let (embeddings, shape) = (rows.make(), Rows.shape.matrix)
        // Between thresholds whose losses have different signs.
        var (below, above) = (Float(-1), Float(0.3))
        for _ in 0..<40 {
            let middle = (below + above) / 2
            let value = try Self.loss(middle, .never).value(embeddings: embeddings, shape: shape).value
            if value < 0 { below = middle } else { above = middle }
        }
        let automatic = try Self.run(Self.loss(above), embeddings)
        let never = try Self.run(Self.loss(above, .never), embeddings)
        #expect(abs(never.loss.value) < 1e-6)
        #expect(automatic.loss == never.loss && automatic.loss.certifiedPairs == 0)
        expectSameBits(automatic.gradient, never.gradient)
        let certified = try Self.run(Self.loss(above + 0.1), embeddings)
        #expect(certified.loss.certifiedPairs == 25 * 220 * 220)
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity], [0, 700, 1_099])
    func strangeRowsPropagate(_ number: Float, row: Int) throws {
        var embeddings = Rows.cone.make()
        embeddings[row * Rows.columns + 1] = number
        let result = try Self.run(Self.loss(0.3), embeddings)
        #expect(result.loss.value.isNaN)
        #expect(result.gradient.allSatisfy { $0.isNaN })
    }

    // MARK: - The gradient's place, and execution

    @Test(arguments: [Rows.cone, .clusters, .opposite])
    func anyNumberOfWorkersGivesTheSameBits(_ rows: Rows) throws {
        let embeddings = rows.make()
        let one = try Self.run(Self.loss(0.3), embeddings, workers: 1)
        for workers in [2, 3, 8] {
            let result = try Self.run(Self.loss(0.3), embeddings, workers: workers)
            #expect(result.loss == one.loss)
            expectSameBits(result.gradient, one.gradient)
        }
    }

    @Test(arguments: [Rows.cone, .clusters, .opposite])
    func gradientIsAdded(_ rows: Rows) throws {
        let embeddings = rows.make()
        let plain = try Self.run(Self.loss(0.3), embeddings)
        var random = RandomInputs(seed: 34)
        let initial = random.normals(embeddings.count)
        let added = try Self.run(Self.loss(0.3), embeddings, addingTo: initial)
        #expect(added.loss == plain.loss)
        expectWithinUlps(
            actual: added.gradient, oracle: zip(initial, plain.gradient).map { Double($0) + Double($1) },
            floor: Tolerances.accumulatedFloor)
    }

    @Test func objectiveReportsThePairs() throws {
        let embeddings = Rows.cone.make()
        func value(_ certificate: ElasticCellSimilarity.Certificate) throws -> ObjectiveValue {
            let objective = TotalObjective(
                weights: TermValues(elastic: 10), elasticCellSimilarity: Self.loss(0.3, certificate))
            return try objective.value(
                ObjectiveArrays(
                    shape: MatrixShape(rows: Rows.rows, columns: 0), width: Rows.columns,
                    cellEmbedding: embeddings),
                workspace: Workspace(workers: 2))
        }
        #expect(try value(.automatic).certifiedPairs == Rows.rows * Rows.rows)
        #expect(try value(.never).certifiedPairs == 0)
    }
}
