// The element types of a model's outputs and of their gradients, and outputs of any of them in memory.

import CFastLossKernels

/// The type of a model's output: ``float32``, or one of the 16-bit types of mixed precision.
public enum ElementType: CaseIterable, Sendable {
    /// `Float`.
    case float32
    /// ``BFloat16``: the upper half of a `Float`, with 8 significant bits.
    case bfloat16
    /// `Float16`, IEEE's binary16: 11 significant bits, up to 65,504.
    case float16
}

/// An element of a model's output: `Float`, ``BFloat16`` or `Float16`.
///
/// Losses read outputs as they are and compute in `Float` and `Double`. A gradient has the type of its output
/// and is rounded once, to nearest: beyond the range of the type it is infinite, below it is 0.
///
/// No other type can conform: the losses read the memory as ``elementType`` says.
public protocol ModelOutputElement: BitwiseCopyable, Sendable {
    /// The type in memory.
    static var elementType: ElementType { get }
    /// The nearest element.
    init(_ value: Float)
    /// The value, exactly.
    var float: Float { get }
}

extension Float: ModelOutputElement {
    /// ``ElementType/float32``.
    public static var elementType: ElementType { .float32 }
    /// The value itself.
    public var float: Float { self }
}

#if !(arch(x86_64) && canImport(Darwin))
    extension Float16: ModelOutputElement {
        /// ``ElementType/float16``.
        public static var elementType: ElementType { .float16 }
        /// The value, exactly.
        public var float: Float { Float(self) }
    }
#endif

/// The 16-bit brain floating-point number, PyTorch's `torch.bfloat16`: the upper half of a `Float`, which has
/// the range of `Float` and 8 significant bits.
///
/// It holds and converts; it does not compute.
public struct BFloat16: ModelOutputElement {
    /// Sign, eight bits of the exponent and seven of the significand.
    public var bitPattern: UInt16

    /// The number with these bits.
    public init(bitPattern: UInt16) {
        self.bitPattern = bitPattern
    }

    /// The nearest number, ties to even. A NaN stays a quiet NaN.
    public init(_ value: Float) {
        let bits = value.bitPattern
        bitPattern = UInt16(value.isNaN ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16)
    }

    /// The value, exactly.
    public var float: Float { Float(bitPattern: UInt32(bitPattern) << 16) }
    /// ``ElementType/bfloat16``.
    public static var elementType: ElementType { .bfloat16 }
}

extension ElementType {
    /// The bytes of an element.
    package var byteCount: Int { self == .float32 ? 4 : 2 }

    /// The type in the kernels' interface.
    var kernelElement: fastloss_element {
        switch self {
        case .float32: FASTLOSS_FLOAT32
        case .bfloat16: FASTLOSS_BFLOAT16
        case .float16: FASTLOSS_FLOAT16
        }
    }
}

/// The elements of an output in memory. Lives under the rule of `Span.memory`.
package struct ModelElements {
    /// Nil only if there are no elements.
    package let address: UnsafeRawPointer?
    package let count: Int
    package let type: ElementType

    package init(_ address: UnsafeRawPointer?, count: Int, type: ElementType) {
        self.address = address
        self.count = count
        self.type = type
    }

    package init<Element: ModelOutputElement>(_ elements: Span<Element>) {
        precondition(
            MemoryLayout<Element>.stride == Element.elementType.byteCount,
            "\(Element.self) is not of the type that it names")
        self.init(elements.memory.baseAddress, count: elements.count, type: Element.elementType)
    }

    package func named(_ name: String) -> NamedMemory {
        NamedMemory(name, UnsafeRawBufferPointer(start: address, count: count * type.byteCount))
    }

    package init(_ floats: UnsafePointer<Float>, count: Int) {
        self.init(floats, count: count, type: .float32)
    }

    /// The elements, if they are floats and there are any.
    package var floatsInPlace: UnsafePointer<Float>? {
        type == .float32 ? address?.assumingMemoryBound(to: Float.self) : nil
    }

    /// The elements of an output of floats.
    var floatBuffer: UnsafeBufferPointer<Float> {
        precondition(type == .float32, "the loss reads outputs of Float alone")
        return UnsafeBufferPointer(start: address?.assumingMemoryBound(to: Float.self), count: count)
    }

    /// Some elements as floats: those of `float32` where they are, others widened into `memory`.
    package func floats(
        _ range: Range<Int>, widenedInto memory: UnsafeMutablePointer<Float>
    ) -> UnsafePointer<Float> {
        guard let address, !range.isEmpty else { return UnsafePointer(memory) }
        let first = address + range.lowerBound * type.byteCount
        if type == .float32 { return first.assumingMemoryBound(to: Float.self) }
        kernels.widen(first, range.count, memory, type.kernelElement)
        return UnsafePointer(memory)
    }

    /// Copies some elements, as floats.
    package func copy(_ range: Range<Int>, to memory: UnsafeMutablePointer<Float>) {
        guard let address, !range.isEmpty else { return }
        if let floats = floatsInPlace {
            return memory.update(from: floats + range.lowerBound, count: range.count)
        }
        kernels.widen(
            address + range.lowerBound * type.byteCount, range.count, memory, type.kernelElement)
    }

    subscript(index: Int) -> Float {
        var value: Float = 0
        // An output with an element has an address.
        kernels.widen(address! + index * type.byteCount, 1, &value, type.kernelElement)
        return value
    }
}
