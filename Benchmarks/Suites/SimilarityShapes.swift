// The sizes at which the losses over all pairs of cells are timed.

extension ProblemShape {
    /// B cells × B cells × D: batches of training up to 512 and the large ones of contrastive learning, at
    /// the widths of scGPT's models.
    static let pairs =
        [64, 256, 1024, 4096].map { ProblemShape($0, $0, 512) }
        + [64, 1024, 4096].map { ProblemShape($0, $0, 128) }

    /// A batch whose similarity matrix would take 1 GiB.
    static let hugePairs = ProblemShape(16_384, 16_384, 512)

    /// The shape at which the naive loop is timed, if one call takes longer than some seconds at this one.
    var naivePairs: ProblemShape? { rows > 1024 ? ProblemShape(1024, 1024, depth) : nil }

    /// Whether the reference's loops in double precision are too slow for the check, which then uses
    /// `PairTruth`.
    var needsPairTruth: Bool { rows > 1024 }

    /// Whether `--quick` keeps the shape.
    var isQuickPairs: Bool { rows <= 256 }
}
