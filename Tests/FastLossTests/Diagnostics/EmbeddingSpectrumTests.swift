// The spectrum by LAPACK against PyTorch and against the oracle's rotations, and every error.

import FastLoss
import FastLossDiagnostics
import FastLossReference
import Testing

@Suite struct EmbeddingSpectrumTests {
    static let shapes = [
        (1, 1), (1, 17), (17, 1), (2, 3), (13, 13), (40, 7), (7, 40), (64, 33), (33, 64),
    ].map { MatrixShape(rows: $0, columns: $1) }

    @Test(arguments: try Golden.cases(of: "EmbeddingSpectrum"))
    func matchesPyTorch(_ golden: Golden) throws {
        let spectrum = try EmbeddingSpectrum(
            embeddings: golden.floats("embeddings"),
            shape: MatrixShape(rows: golden.int("rows"), columns: golden.int("columns")))
        expectSpectrum(spectrum.singularValues, try golden.truth("singularValues"))
        expectClose([spectrum.effectiveRank], try golden.truth("effectiveRank"), Tolerances.oracle)
    }

    @Test(arguments: shapes)
    func matchesTheOracle(_ shape: MatrixShape) throws {
        var random = RandomInputs(seed: UInt64(shape.rows * 1009 + shape.columns))
        let embeddings = random.embeddings(rows: shape.rows, columns: shape.columns)
        let spectrum = try EmbeddingSpectrum(embeddings: embeddings, shape: shape)
        let truth = Reference.EmbeddingSpectrum.singularValues(
            embeddings: embeddings, rows: shape.rows, columns: shape.columns)
        expectSpectrum(spectrum.singularValues, truth)
        expectClose(
            spectrum.effectiveRank, Reference.EmbeddingSpectrum.effectiveRank(singularValues: truth),
            Tolerances.oracle)
        #expect(spectrum.singularValues.count == min(shape.rows, shape.columns))
        #expect(spectrum.singularValues == spectrum.singularValues.sorted(by: >))
    }

    /// A touch outside the embeddings, or a write to them, ends the process.
    @Test(arguments: shapes, GuardedMemory.End.allCases)
    func staysInBounds(_ shape: MatrixShape, end: GuardedMemory.End) throws {
        var random = RandomInputs(seed: 6)
        let embeddings = random.embeddings(rows: shape.rows, columns: shape.columns)
        let pages = GuardedMemory(byteCount: embeddings.count * MemoryLayout<Float>.stride, end: end)
        let guarded: UnsafeMutableBufferPointer<Float> = pages.elements()
        _ = guarded.initialize(from: embeddings)
        pages.makeReadOnly()
        let expected = try EmbeddingSpectrum(embeddings: embeddings, shape: shape)
        let found = try withExtendedLifetime(pages) {
            try EmbeddingSpectrum(
                embeddings: Span(_unsafeElements: UnsafeBufferPointer(guarded)), shape: shape,
                workspace: Workspace(workers: 1))
        }
        #expect(found == expected && pages.isIntact)
    }

    /// All rows have length 1, so the squares sum to the number of rows for rows of any size.
    @Test(arguments: [Float(1), 1e18, 1e-18])
    func rowsAreNormalised(factor: Float) throws {
        var random = RandomInputs(seed: 5)
        // Rows below the floor stay short, as in ECS.
        let embeddings = random.normals(12 * 5, scale: Double(factor))
        let spectrum = try EmbeddingSpectrum(embeddings: embeddings, shape: MatrixShape(rows: 12, columns: 5))
        let squares = spectrum.singularValues.reduce(0) { $0 + $1 * $1 }
        if factor < 1 {
            #expect(squares < 1)
        } else {
            expectClose(squares, 12, Tolerances.oracle)
        }
    }

    /// What it is for: directions counted, a collapse seen.
    @Test func effectiveRankCountsDirections() throws {
        let shape = MatrixShape(rows: 6, columns: 4)
        var orthogonal = [Float](repeating: 0, count: 24)
        for row in 0..<6 { orthogonal[row * 4 + row % 3] = Float(row + 1) }
        expectClose(
            try EmbeddingSpectrum(embeddings: orthogonal, shape: shape).effectiveRank, 3, Tolerances.oracle)
        let collapsed = (0..<6).flatMap { row in [1, 2, 3, 4].map { Float($0 * (row + 1)) } }
        let spectrum = try EmbeddingSpectrum(embeddings: collapsed, shape: shape)
        expectClose(spectrum.effectiveRank, 1, Tolerances.oracle)
    }

    @Test func nothingInUseHasNoRank() throws {
        let zeros = try EmbeddingSpectrum(
            embeddings: [Float](repeating: 0, count: 6), shape: MatrixShape(rows: 2, columns: 3))
        #expect(zeros.singularValues == [0, 0] && zeros.effectiveRank.isNaN)
        for shape in [MatrixShape(rows: 0, columns: 3), MatrixShape(rows: 3, columns: 0)] {
            let empty = try EmbeddingSpectrum(embeddings: [], shape: shape)
            #expect(empty.singularValues.isEmpty && empty.effectiveRank.isNaN)
        }
    }

    @Test func aWorkspaceIsReused() throws {
        var random = RandomInputs(seed: 6)
        let embeddings = random.embeddings(rows: 20, columns: 9)
        let shape = MatrixShape(rows: 20, columns: 9)
        let workspace = Workspace()
        let first = try EmbeddingSpectrum(embeddings: embeddings.span, shape: shape, workspace: workspace)
        let bytes = workspace.byteCount
        let second = try EmbeddingSpectrum(embeddings: embeddings.span, shape: shape, workspace: workspace)
        #expect(first == second)
        #expect(workspace.byteCount == bytes && bytes >= 20 * 9 * 8)
    }

    /// Linking LAPACK must not change where products come from.
    @Test func productsStillComeFromOpenBLAS() throws {
        _ = try EmbeddingSpectrum(embeddings: [1, 0, 0, 1], shape: MatrixShape(rows: 2, columns: 2))
        #expect(RuntimeDescription.current.blasLibrary.contains("openblas"))
        #expect(RuntimeDescription.current.blasThreads == 1)
    }
}

// MARK: - Errors

extension EmbeddingSpectrumTests {
    @Test(arguments: [Float.nan, .infinity, -.infinity])
    func namesWhatIsNotFinite(value: Float) throws {
        var embeddings = [Float](repeating: 1, count: 12)
        embeddings[7] = value
        embeddings[10] = .nan
        let error = #expect(throws: LossError.self) {
            try EmbeddingSpectrum(embeddings: embeddings, shape: MatrixShape(rows: 4, columns: 3))
        }
        #expect(error?.description == "embeddings is \(value) at element 7, but it must be finite")
    }

    @Test func shapesThatDoNotFit() {
        func message(_ count: Int, _ rows: Int, _ columns: Int) -> String? {
            #expect(throws: LossError.self) {
                try EmbeddingSpectrum(
                    embeddings: [Float](repeating: 1, count: count),
                    shape: MatrixShape(rows: rows, columns: columns))
            }?.description
        }
        #expect(message(11, 4, 3) == "embeddings has 11 elements, but the other arguments ask for 12")
        #expect(
            message(0, -4, 3) == "a shape of -4 rows and 3 columns is not possible: "
                + "sides must be at least 0 and their product must fit an Int")
        #expect(message(0, 1 << 31, 0) == "shape.rows is 2147483648, but BLAS takes sizes up to 2147483647")
        #expect(
            message(0, 0, 1 << 31) == "shape.columns is 2147483648, but BLAS takes sizes up to 2147483647")
    }

    @Test func failureOfLAPACK() {
        #expect(
            LossError.factorizationFailed(routine: "dgesdd", info: 3).description
                == "LAPACK's dgesdd did not converge (info 3)")
    }

    /// Absolute differences, relative to the largest value.
    private func expectSpectrum(
        _ values: [Double], _ truth: [Double], sourceLocation: SourceLocation = #_sourceLocation
    ) {
        expectClose(
            values, truth,
            Tolerance(relative: 0, absolute: Tolerances.singularValues * (truth.first ?? 0)),
            sourceLocation: sourceLocation)
    }
}
