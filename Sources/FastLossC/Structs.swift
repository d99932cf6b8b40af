// Reads the structs and enumerations of C, and checks pointers to results.

import CFastLoss
import FastLoss

/// The pointer. Throws if it is NULL.
func required<Pointer>(_ pointer: Pointer?, _ argument: String) throws(CallError) -> Pointer {
    guard let pointer else { throw .nullPointer(argument: argument, elements: nil) }
    return pointer
}

/// The pointer to a result. Throws if it is NULL or misaligned.
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

/// A struct of the headers that begins with its size and may get more members.
protocol SizedStruct {
    /// All members zero.
    init()
    var size: Int { get set }
    /// Sets the members whose default is not zero.
    mutating func setDefaults()
    /// The size in the first version of the header. No caller's struct is smaller.
    static var firstSize: Int { get }
    /// The name in messages.
    static var name: String { get }
}

/// A larger size is uninitialised memory.
private let largestStruct = 1 << 16

extension SizedStruct {
    mutating func setDefaults() {}

    /// The default of every member.
    static var defaults: Self {
        var value = Self()
        value.size = firstSize
        value.setDefaults()
        return value
    }

    /// The caller's struct in this library's version. NULL, and members that the caller's version lacks, give
    /// the defaults.
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

    /// The size of the caller's struct. Throws if no version has it, or if an unknown member is not zero.
    static func checkedSize(_ pointer: UnsafePointer<Self>) throws(CallError) -> Int {
        try checkAlignment(pointer, name)
        let known = MemoryLayout<Self>.size
        // The size is the first member in every version.
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

extension SizedStruct {
    /// Writes to the caller's struct, whose version has `size` bytes.
    func write(to pointer: UnsafeMutablePointer<Self>, size: Int) {
        var value = self
        value.size = size
        withUnsafeBytes(of: value) {
            UnsafeMutableRawPointer(pointer).copyMemory(from: $0.baseAddress!, byteCount: min(size, $0.count))
        }
    }
}

/// Throws unless a member without a meaning is 0.
func checkReserved(_ value: Int32, _ name: String) throws(CallError) {
    guard value == 0 else { throw .reservedField(name: name, value: value) }
}

extension fastloss_gradient: SizedStruct {
    static var firstSize: Int { 40 }
    static var name: String { "fastloss_gradient" }
    mutating func setDefaults() { scale = 1 }
}

extension fastloss_masked_options: SizedStruct {
    static var firstSize: Int { 16 }
    static var name: String { "fastloss_masked_options" }
}

extension fastloss_cross_entropy_options: SizedStruct {
    static var firstSize: Int { 24 }
    static var name: String { "fastloss_cross_entropy_options" }
    mutating func setDefaults() { ignored_label = FASTLOSS_IGNORED_LABEL }
}

extension fastloss_domain_adversarial_options: SizedStruct {
    static var firstSize: Int { 24 }
    static var name: String { "fastloss_domain_adversarial_options" }
    mutating func setDefaults() {
        ignored_label = FASTLOSS_IGNORED_LABEL
        lambda = GradientReversal().lambda
    }
}

extension fastloss_elastic_options: SizedStruct {
    static var firstSize: Int { 16 }
    static var name: String { "fastloss_elastic_options" }
    mutating func setDefaults() { threshold = ElasticCellSimilarity().threshold }
}

extension fastloss_contrastive_options: SizedStruct {
    static var firstSize: Int { 16 }
    static var name: String { "fastloss_contrastive_options" }
    mutating func setDefaults() { temperature = ContrastiveCellEmbedding().temperature }
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

extension ElasticCellSimilarity.Certificate {
    init(_ value: fastloss_certificate, _ name: String) throws(CallError) {
        switch Int(value) {
        case FASTLOSS_CERTIFICATE_AUTOMATIC: self = .automatic
        case FASTLOSS_CERTIFICATE_NEVER: self = .never
        default: throw .invalidEnumeration(name: name, value: value)
        }
    }

    var inC: fastloss_certificate {
        switch self {
        case .automatic: fastloss_certificate(FASTLOSS_CERTIFICATE_AUTOMATIC)
        case .never: fastloss_certificate(FASTLOSS_CERTIFICATE_NEVER)
        }
    }
}

extension ElementType {
    init(_ value: fastloss_element_type, _ name: String) throws(CallError) {
        switch Int(value) {
        case FASTLOSS_ELEMENT_FLOAT32: self = .float32
        case FASTLOSS_ELEMENT_BFLOAT16: self = .bfloat16
        case FASTLOSS_ELEMENT_FLOAT16: self = .float16
        default: throw .invalidEnumeration(name: name, value: value)
        }
    }

    /// Throws if the type is a 16-bit one, for a call that reads floats alone.
    func checkIsFloat(_ name: String) throws(CallError) {
        guard self == .float32 else { throw .floatsOnly(argument: name) }
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

/// A gradient among the matrices of a call, with its factor.
struct TakenGradient {
    let memory: TakenOutput
    let name: String
    let scale: Float
    let update: GradientUpdate
}

extension Call {
    /// The gradient of a matrix; nil for NULL.
    func gradient(
        _ pointer: UnsafePointer<fastloss_gradient>?, rows: Int64, columns: Int64,
        named name: String = "gradient", type: ElementType = .float32
    ) throws(CallError) -> TakenGradient? {
        guard let pointer else { return nil }
        let value = try fastloss_gradient.read(pointer)
        guard value.cell_stride == 0 else {
            throw .strideOfMatrix(gradient: name, cellStride: value.cell_stride)
        }
        let strides = Strides(rows: rows, columns: columns, stride: value.stride, of: name)
        return try take(value, strides, type)
    }

    /// The gradient of token states.
    func gradient(
        _ pointer: UnsafePointer<fastloss_gradient>?, _ shape: TokenShape
    ) throws(CallError) -> TakenGradient {
        let value = try fastloss_gradient.read(required(pointer, "gradient"))
        let strides = Strides(
            shape, tokenStride: value.stride, cellStride: value.cell_stride, of: "gradient")
        return try take(value, strides, .float32)
    }

    private func take(
        _ value: fastloss_gradient, _ strides: Strides, _ type: ElementType
    ) throws(CallError) -> TakenGradient {
        let update = try GradientUpdate(value.update, of: strides.name)
        return TakenGradient(
            memory: try output(value.data, strides, type, update: update), name: strides.name,
            scale: value.scale,
            update: update)
    }

    /// The gradient for the plans; nil if there is none.
    func output(_ gradient: TakenGradient?) -> GradientOutput? {
        gradient.map { output($0) }
    }

    /// The gradient for the plans.
    ///
    /// - Parameter lambda: The factor of the gradient reversal before this gradient, if there is one.
    func output(_ gradient: TakenGradient, reversedBy lambda: Float? = nil) -> GradientOutput {
        output(
            gradient.memory, named: gradient.name, scale: -Double(lambda ?? -1) * Double(gradient.scale),
            named: lambda == nil || !gradient.scale.isFinite ? "scale" : "lambda * scale",
            update: gradient.update)
    }

    /// A gradient for the plans, from its memory.
    func output(
        _ memory: TakenOutput, named name: String, scale: Double, named scaleName: String = "scale",
        update: GradientUpdate
    ) -> GradientOutput {
        let memory = elements(memory)
        return GradientOutput(
            UnsafeMutableRawPointer(mutating: memory.address), count: memory.count, type: memory.type,
            named: name, scale: scale, named: scaleName, update: update)
    }
}
