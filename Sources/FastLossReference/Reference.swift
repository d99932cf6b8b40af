// The namespace of the reference, and the rules that hold for every function in it.

/// The mathematics of FastLoss as plain loops over arrays.
///
/// In `Double` these functions are the oracle of the tests, in `Float` the baseline of the benchmarks. Read
/// them first: every formula stands here once, in its plainest form.
///
/// Rules of every function:
/// - Matrices are row-major arrays; a mask is an array of `Bool` with one element per value.
/// - A mask **selects**: a value outside it never enters a sum, so a NaN or an infinity there has no effect.
///   Inside it, NaN and infinity propagate as IEEE 754 says.
/// - An empty mean is NaN, an empty sum is zero, and the gradient of both is zero.
/// - Gradient functions overwrite their `inout` arrays, which have the size of the input, and multiply the
///   gradient (never the value) by `gradientScale`. Task heads have many gradients and return them instead.
///   They start from ∂L/∂output, which holds every weight and scale of the loss.
/// - Sizes that do not match are programming errors and trap. The library reports them as typed errors.
/// - Sums are accumulated in the element type, in index order.
public enum Reference {
    /// How the losses of the selected elements are combined.
    public enum Reduction: Sendable, CaseIterable {
        /// Their sum divided by their number.
        case mean
        /// Their sum.
        case sum
    }
}
