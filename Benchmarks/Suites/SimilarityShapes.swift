// The sizes at which the losses over all pairs of cells are timed.

extension ProblemShape {
    /// B cells × B cells × D: batches of training up to 512 and the large ones of contrastive learning.
    static let pairs: [ProblemShape] = [64, 256, 1024, 4096].map { ProblemShape($0, $0, 512) } + [ProblemShape(64, 64, 128)]

    /// Where the naive loop is timed instead, if one call of it takes longer than some seconds here.
    var naivePairs: ProblemShape? { rows > 1024 ? ProblemShape(1024, 1024, depth) : nil }

    /// Whether `--quick` keeps the shape.
    var isQuickPairs: Bool { rows <= 256 }
}
