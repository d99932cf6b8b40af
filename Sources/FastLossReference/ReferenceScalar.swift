// The only use of libm in the reference: Swift's standard library has square roots, but no exponentials or
// logarithms.

#if canImport(Glibc)
    public import Glibc
#elseif canImport(Musl)
    public import Musl
#elseif canImport(Darwin)
    public import Darwin
#endif

/// The element type of every reference function: `Double` is the oracle of the tests, `Float` the baseline of
/// the benchmarks.
public protocol ReferenceScalar: BinaryFloatingPoint, Sendable {
    /// e raised to `x`.
    static func exp(_ x: Self) -> Self
    /// The natural logarithm of `x`.
    static func log(_ x: Self) -> Self
    /// The natural logarithm of 1 + `x`, accurate where `x` is small.
    static func log1p(_ x: Self) -> Self
}

extension Double: ReferenceScalar {
    @inlinable public static func exp(_ x: Double) -> Double { libmExp(x) }
    @inlinable public static func log(_ x: Double) -> Double { libmLog(x) }
    @inlinable public static func log1p(_ x: Double) -> Double { libmLog1p(x) }
}

extension Float: ReferenceScalar {
    @inlinable public static func exp(_ x: Float) -> Float { libmExp(x) }
    @inlinable public static func log(_ x: Float) -> Float { libmLog(x) }
    @inlinable public static func log1p(_ x: Float) -> Float { libmLog1p(x) }
}

// Free functions, because inside the extensions above the C names would mean the static functions themselves,
// and qualifying them would need one copy per C library.
@inlinable func libmExp(_ x: Double) -> Double { exp(x) }
@inlinable func libmExp(_ x: Float) -> Float { expf(x) }
@inlinable func libmLog(_ x: Double) -> Double { log(x) }
@inlinable func libmLog(_ x: Float) -> Float { logf(x) }
@inlinable func libmLog1p(_ x: Double) -> Double { log1p(x) }
@inlinable func libmLog1p(_ x: Float) -> Float { log1pf(x) }
