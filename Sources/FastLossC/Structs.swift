// Reading what C hands over by pointer: structs that grow, enumerations, places for results.

import CFastLoss
import FastLoss

/// A pointer that may not be NULL.
func required<Pointer>(_ pointer: Pointer?, _ argument: String) throws(CallError) -> Pointer {
    guard let pointer else { throw .nullPointer(argument: argument, elements: nil) }
    return pointer
}

/// A place for one result, which may not be NULL and has to be aligned.
func place<Value>(
    _ pointer: UnsafeMutablePointer<Value>?, _ argument: String
) throws(CallError) -> UnsafeMutablePointer<Value> {
    let pointer = try required(pointer, argument)
    try checkAlignment(UnsafePointer(pointer), argument)
    return pointer
}

func checkAlignment<Value>(_ pointer: UnsafePointer<Value>, _ argument: String) throws(CallError) {
    let address = UInt(bitPattern: pointer)
    let alignment = MemoryLayout<Value>.alignment
    guard address % UInt(alignment) == 0 else {
        throw .misalignedPointer(argument: argument, address: address, alignment: alignment)
    }
}

// MARK: - Structs that begin with their size

/// A struct of the header that begins with its size and may get more fields.
protocol SizedStruct {
    /// What every field means that a caller's struct does not have.
    static var defaults: Self { get }
    /// The size in the first version of the header: no struct is smaller.
    static var firstSize: Int { get }
    /// Its name in messages.
    static var name: String { get }
}

/// Above it a size is no size but whatever lay in memory.
private let largestStruct = 1 << 16

extension SizedStruct {
    /// What the caller's struct says, in this library's version of it: the defaults for NULL and for fields
    /// that the caller does not know.
    static func read(_ pointer: UnsafePointer<Self>?) throws(CallError) -> Self {
        var value = defaults
        guard let pointer else { return value }
        let size = try checkedSize(pointer)
        withUnsafeMutableBytes(of: &value) {
            $0.copyMemory(
                from: UnsafeRawBufferPointer(start: pointer, count: min(size, MemoryLayout<Self>.size)))
        }
        return value
    }

    /// The size that a caller's struct says it has, if there is such a version.
    static func checkedSize(_ pointer: UnsafePointer<Self>) throws(CallError) -> Int {
        try checkAlignment(pointer, name)
        let known = MemoryLayout<Self>.size
        // Every struct is read from its start, so its size is there whatever version it is of.
        let size = UnsafeRawPointer(pointer).load(as: Int.self)
        guard (firstSize...largestStruct).contains(size) else {
            throw .structSize(type: name, size: size, expected: known)
        }
        let bytes = UnsafeRawBufferPointer(start: pointer, count: size)
        guard bytes.dropFirst(known).allSatisfy({ $0 == 0 }) else {
            throw .unknownFields(type: name, size: size, expected: known)
        }
        return size
    }
}

extension fastloss_gradient: SizedStruct {
    static var firstSize: Int { 40 }
    static var name: String { "fastloss_gradient" }
    static var defaults: Self {
        Self(
            size: firstSize, data: nil, stride: 0, cell_stride: 0, scale: 1,
            update: fastloss_update(FASTLOSS_UPDATE_OVERWRITE))
    }
}

extension fastloss_masked_options: SizedStruct {
    static var firstSize: Int { 16 }
    static var name: String { "fastloss_masked_options" }
    static var defaults: Self {
        Self(
            size: firstSize, reduction: fastloss_reduction(FASTLOSS_REDUCTION_MEAN),
            when_empty: fastloss_empty_rule(FASTLOSS_EMPTY_ERROR))
    }
}

extension fastloss_cross_entropy_options: SizedStruct {
    static var firstSize: Int { 24 }
    static var name: String { "fastloss_cross_entropy_options" }
    static var defaults: Self {
        Self(
            size: firstSize, reduction: fastloss_reduction(FASTLOSS_REDUCTION_MEAN),
            when_empty: fastloss_empty_rule(FASTLOSS_EMPTY_ERROR), ignored_label: FASTLOSS_IGNORED_LABEL,
            reserved: 0)
    }
}

extension fastloss_domain_adversarial_options: SizedStruct {
    static var firstSize: Int { 24 }
    static var name: String { "fastloss_domain_adversarial_options" }
    static var defaults: Self {
        Self(
            size: firstSize, reduction: fastloss_reduction(FASTLOSS_REDUCTION_MEAN),
            when_empty: fastloss_empty_rule(FASTLOSS_EMPTY_ERROR), ignored_label: FASTLOSS_IGNORED_LABEL,
            lambda: GradientReversal().lambda)
    }
}

extension fastloss_elastic_options: SizedStruct {
    static var firstSize: Int { 16 }
    static var name: String { "fastloss_elastic_options" }
    static var defaults: Self {
        Self(
            size: firstSize, threshold: ElasticCellSimilarity().threshold,
            when_empty: fastloss_empty_rule(FASTLOSS_EMPTY_ERROR))
    }
}

extension fastloss_contrastive_options: SizedStruct {
    static var firstSize: Int { 16 }
    static var name: String { "fastloss_contrastive_options" }
    static var defaults: Self {
        Self(
            size: firstSize, temperature: ContrastiveCellEmbedding().temperature,
            when_empty: fastloss_empty_rule(FASTLOSS_EMPTY_ERROR))
    }
}

// MARK: - Enumerations

extension LossReduction {
    init(_ value: fastloss_reduction, _ name: String = "reduction") throws(CallError) {
        switch Int(value) {
        case FASTLOSS_REDUCTION_MEAN: self = .mean
        case FASTLOSS_REDUCTION_SUM: self = .sum
        default: throw .invalidEnumeration(name: name, value: value)
        }
    }
}

extension EmptySelectionRule {
    init(_ value: fastloss_empty_rule, _ name: String = "when_empty") throws(CallError) {
        switch Int(value) {
        case FASTLOSS_EMPTY_ERROR: self = .error
        case FASTLOSS_EMPTY_ZERO: self = .zero
        case FASTLOSS_EMPTY_NAN: self = .nan
        default: throw .invalidEnumeration(name: name, value: value)
        }
    }
}

extension GradientUpdate {
    init(_ value: fastloss_update, of gradient: String) throws(CallError) {
        switch Int(value) {
        case FASTLOSS_UPDATE_OVERWRITE: self = .overwrite
        case FASTLOSS_UPDATE_ACCUMULATE: self = .accumulate
        default: throw .invalidUpdate(of: gradient, value: value)
        }
    }
}

// MARK: - Gradients

/// A gradient's place among the matrices of a call, with its factor.
struct TakenGradient {
    let memory: Taken<Float>
    let name: String
    let scale: Float
    let update: GradientUpdate
}

extension Call {
    /// The gradient of a matrix; nil where none is wanted.
    func gradient(
        _ pointer: UnsafePointer<fastloss_gradient>?, rows: Int64, columns: Int64,
        named name: String = "gradient"
    ) throws(CallError) -> TakenGradient? {
        guard let pointer else { return nil }
        let value = try fastloss_gradient.read(pointer)
        guard value.cell_stride == 0 else {
            throw .strideOfMatrix(gradient: name, cellStride: value.cell_stride)
        }
        let strides = Strides(rows: rows, columns: columns, stride: value.stride, of: name)
        return try take(value, strides)
    }

    /// The gradient of token states.
    func gradient(
        _ pointer: UnsafePointer<fastloss_gradient>?, _ shape: TokenShape
    ) throws(CallError) -> TakenGradient {
        let value = try fastloss_gradient.read(required(pointer, "gradient"))
        let strides = Strides(
            shape, tokenStride: value.stride, cellStride: value.cell_stride, of: "gradient")
        return try take(value, strides)
    }

    private func take(
        _ value: fastloss_gradient, _ strides: Strides
    ) throws(CallError) -> TakenGradient {
        let update = try GradientUpdate(value.update, of: strides.name)
        return TakenGradient(
            memory: try output(value.data, strides, update: update), name: strides.name, scale: value.scale,
            update: update)
    }

    /// The gradient as the plans take it; nil where none is wanted.
    func output(_ gradient: TakenGradient?) -> GradientOutput? {
        gradient.map { output($0) }
    }

    /// The gradient as the plans take it.
    ///
    /// - Parameter lambda: that of a gradient reversal, if the gradient is beyond one.
    func output(_ gradient: TakenGradient, reversedBy lambda: Float? = nil) -> GradientOutput {
        GradientOutput(
            buffer(gradient.memory), named: gradient.name,
            scale: -Double(lambda ?? -1) * Double(gradient.scale),
            named: lambda == nil || !gradient.scale.isFinite ? "gradientScale" : "lambda · gradientScale",
            update: gradient.update)
    }
}
