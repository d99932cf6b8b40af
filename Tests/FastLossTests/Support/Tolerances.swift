// The table of tolerances. Tests name an entry instead of writing a number.

/// A bound on the error of one number: |actual − expected| ≤ relative · |expected| + absolute.
struct Tolerance: Sendable {
    var relative: Double
    var absolute: Double

    func allowed(for expected: Double) -> Double { relative * abs(expected) + absolute }
}

enum Tolerances {
    // MARK: The oracle

    /// The Double oracle against PyTorch's float64. Both carry 2⁻⁵³ per operation over sums of at most some
    /// hundred terms. The absolute part is for elements that PyTorch gets by cancelling quantities near 1,
    /// such as softmax − 1.
    static let oracle = Tolerance(relative: 1e-12, absolute: 1e-15)

    /// The same for arrays whose elements cancel: error norm relative to a given norm.
    static let oracleNormwise = 1e-12

    /// Singular values against LAPACK's: absolute, relative to the largest one, because that is all that
    /// either algorithm promises for the small ones.
    static let singularValues = 1e-13

    /// A gradient against central differences with the step below: the truncation is of the order of step²,
    /// the rounding of 2⁻⁵³ / step, both times the size of values up to some hundred.
    static let centralDifferences = Tolerance(relative: 1e-6, absolute: 1e-8)

    /// The step of central differences, relative to max(1, |x|): near the cube root of 2⁻⁵³, where truncation
    /// and rounding meet.
    static let centralDifferenceStep = 1e-5

    /// The naive Float loops against PyTorch's float32, error norm relative to the result's (for embeddings,
    /// before the projection): both are within some dozens of 2⁻²⁴ of the truth on the goldens, on different
    /// sides of it.
    static let naiveNormwise = 1e-5

    /// Values of the naive Float embedding losses against PyTorch's float32. The absolute part is for
    /// confident cells at small temperatures: PyTorch takes the difference of two numbers of the size of 1/τ.
    static let naiveEmbeddingValue = Tolerance(relative: 1e-5, absolute: 1e-6)

    // MARK: The fast kernels

    /// Values of MSE, NLL and cross-entropy, and gradients of elementwise losses: this many units in the last
    /// place of the oracle rounded to Float.
    static let elementwiseUlps = 4.0

    /// The kernels' exponential over [−172, 0]: argument reduction, polynomial and scaling.
    static let exponentialUlps = 2.0

    /// σ(y) = e/(1 + e) for y ≤ 0: the exponential, a sum and a quotient.
    static let sigmoidUlps = 3.0

    /// Cross-entropy of logits that are themselves results rounded to Float, norm-wise: the rounding of
    /// logits of the size of 10 moves probabilities by 10·2⁻²⁴.
    static let roundedLogits = 1e-6

    /// What adding to a gradient of the size of 1 may cost besides: one more rounding.
    static let accumulatedFloor = 4 * 0x1p-24

    /// Below this, an elementwise result counts in absolute terms: a logarithm near 1 or a difference of
    /// nearly equal numbers has no relative accuracy to lose.
    static let elementwiseFloor = 1e-12

    /// Values of ECS and CCE, relative: sums of B² terms that went through Float similarities.
    static let embeddingValue = Tolerance(relative: 1e-6, absolute: 0)

    /// CCE's errors, relative: `bound`, which holds at upstream's temperature of 0.5 and down to 0.12, or
    /// more.
    ///
    /// A similarity is a Float near 1 with an error of up to 2⁻²³. Divided by the temperature, that is the
    /// error of a logit, and the relative error of a small loss and of its gradient. Every product in Float
    /// has it: at a temperature of 0.01, over 40 batches of 60 cells, the root mean square of the error is
    /// 2.7e-6, and the naive loop's is 4.1e-6.
    static func contrastive(_ bound: Double, temperature: Float) -> Double {
        max(bound, 0x1p-23 / Double(temperature))
    }

    /// Losses of CCE so small that they are subnormal in Float count as zero.
    static let contrastiveFloor = Double(Float.leastNormalMagnitude)

    /// Cosine similarities: absolute, because rows of length 1 are multiplied. Within 2⁻²⁴ of the sums that
    /// sgemm forms of up to 128 products, one after the other, of elements that were rounded before: each
    /// addition may add 2⁻²⁵.
    static let similarity = Tolerance(relative: 0, absolute: 16 * 0x1p-24)

    /// Pairs of cells whose similarity is smaller than this are left out: ECS's gradient jumps at 0, and
    /// Float may see the other sign than Double.
    static let kinkWidth = 1e-6

    /// Gradients of ECS and CCE: error norm relative to the norm before the normalisation's projection, which
    /// may cancel most of it.
    static let embeddingGradient = 5e-6

    /// Losses of the task heads' outputs, relative: each output went through up to four layers in Float.
    static let headValue = Tolerance(relative: 1e-5, absolute: 1e-9)

    /// Gradients of the task heads, error norm relative to the result's. A gradient of a leaky rectifier
    /// jumps at 0, where Float may see the other sign than Double; the test's inputs stay clear of it.
    static let headNormwise = 1e-5

    /// A gradient along a direction, against a central difference of Float results with a step of 2⁻⁸: the
    /// rounding is 2⁻²⁴/2⁻⁸ times sums of the size of 100, the truncation of the order of 2⁻¹⁶.
    static let directionalDifferences = Tolerance(relative: 2e-3, absolute: 2e-2)

    /// Scores of numbers up to 15 that are rounded to Float before and after a decomposition in Double, and
    /// squares of their differences.
    static let principalComponents = Tolerance(relative: 2e-6, absolute: 5e-6)

    /// Values of a batch spread over ranks against one process: the promise. Both add the same similarities, in
    /// another order.
    static let acrossRanksValue = Tolerance(relative: 1e-7, absolute: 1e-10)

    /// Gradients of a batch spread over ranks against one process, error norm relative to the gradient's: the
    /// promise.
    static let acrossRanksGradient = 1e-6

    /// Terms of one epoch of training across ranks against one process, relative. Each step rounds differently,
    /// and Adam amplifies that where a gradient is near 0.
    static let curveAcrossRanks = Tolerance(relative: 1e-3, absolute: 1e-4)

    /// What the accuracy rule |fast − truth| ≤ |naive − truth| + tolerance allows on top of the naive Float
    /// loop's error, relative to the result's size: four units of Float's last place, for the case that the
    /// naive result happens to be exact.
    static let accuracyRule = 4 * 0x1p-24
}
