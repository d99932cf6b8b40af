// The namespace of the reference, and the rules that hold for every function in it.

/// The mathematics of FastLoss as plain loops over arrays.
///
/// In `Double` these functions are the oracle of the tests, in `Float` the baseline of the benchmarks, and in
/// either the text to read first: every formula stands here once, unadorned.
///
/// Rules that hold throughout:
/// - Matrices are row-major arrays; a mask is an array of `Bool` with one element per value.
/// - A mask **selects**: a value outside it is never read into a sum, so a NaN or an infinity there has no
///   effect. Inside it, NaN and infinity propagate as IEEE 754 says.
/// - A mean over nothing is NaN, a sum over nothing is zero, and the gradient of either is zero.
/// - Gradient functions overwrite their `inout` arrays, which have the size of what they are the gradient of,
///   and multiply the gradient (never the value) by `gradientScale`.
/// - Sizes that do not match are programming errors and trap. The library reports them as typed errors.
/// - Sums are accumulated in the element type, in index order.
public enum Reference {
    /// What becomes of the selected elements' losses.
    public enum Reduction: Sendable, CaseIterable {
        /// Their sum divided by their number.
        case mean
        /// Their sum.
        case sum
    }
}
