// Every function of the library that computes, with inputs, for the tests of allocations, determinism, bounds
// and leaks.

import FastLoss
import Foundation
import Testing

/// One verb on fixed inputs. It can be called any number of times and on any thread, each time into memory of
/// its own.
struct PublicCall: Sendable, CustomTestStringConvertible {
    let name: String
    /// Elements of each output.
    let outputs: [Int]
    /// Norms of the one verb that returns them in double.
    let norms: Int
    /// Elements of each output of a 16-bit type.
    let sixteenBitOutputs: [Int]
    private let body: @Sendable (CallMemory, Workspace) throws -> Double

    init(
        _ name: String, outputs: [Int] = [], norms: Int = 0, sixteenBitOutputs: [Int] = [],
        body: @escaping @Sendable (CallMemory, Workspace) throws -> Double
    ) {
        self.name = name
        self.outputs = outputs
        self.norms = norms
        self.sixteenBitOutputs = sixteenBitOutputs
        self.body = body
    }

    func run(_ memory: CallMemory, _ workspace: Workspace) throws {
        memory.value = try body(memory, workspace)
    }

    /// The bits of all that a call gives, from outputs that hold the same before every call.
    func bits(_ workspace: Workspace, placement: OperandPlacement = .heap) throws -> Data {
        let memory = CallMemory(self, placement: placement)
        try run(memory, workspace)
        return memory.bits
    }

    var testDescription: String { name }
}

/// Where a call's operands lie.
enum OperandPlacement: Sendable {
    /// Inputs in the arrays of the call, outputs in memory of the heap.
    case heap
    /// Each operand against an unreadable page, at this end of it.
    case guarded(GuardedMemory.End)
}

/// The operands of one call: the inputs that it asks for, and its outputs.
final class CallMemory {
    var value = 0.0
    private let placement: OperandPlacement
    private let floats: [UnsafeMutableBufferPointer<Float>]
    private let doubles: UnsafeMutableBufferPointer<Double>
    private let sixteenBits: [UnsafeMutableBufferPointer<UInt16>]
    /// The pages of guarded operands.
    private var pages: [GuardedMemory] = []
    /// The gradients of a call that writes into arrays. Its first run makes them.
    var gradients: ObjectiveGradientArrays?

    init(_ call: PublicCall, placement: OperandPlacement = .heap) {
        self.placement = placement
        var pages: [GuardedMemory] = []
        func buffer<T: BitwiseCopyable>(_ count: Int, repeating value: T) -> UnsafeMutableBufferPointer<T> {
            let buffer: UnsafeMutableBufferPointer<T>
            switch placement {
            case .heap: buffer = .allocate(capacity: count)
            case .guarded(let end):
                pages.append(GuardedMemory(byteCount: count * MemoryLayout<T>.stride, end: end))
                buffer = pages[pages.count - 1].elements()
            }
            buffer.initialize(repeating: value)
            return buffer
        }
        // A number that gradients are added to: not 0, which would hide the order of the additions.
        floats = call.outputs.map { buffer($0, repeating: 0.7) }
        doubles = buffer(call.norms, repeating: 1)
        // A normal number in either 16-bit type.
        sixteenBits = call.sixteenBitOutputs.map { buffer($0, repeating: 0x3f33) }
        self.pages = pages
    }

    deinit {
        guard case .heap = placement else { return }
        floats.forEach { $0.deallocate() }
        doubles.deallocate()
        sixteenBits.forEach { $0.deallocate() }
    }

    /// An input with the elements of `array`, which the call keeps.
    @_lifetime(borrow self)
    borrowing func input<Element: BitwiseCopyable>(_ array: [Element]) -> Span<Element> {
        guard case .guarded(let end) = placement else {
            return _overrideLifetime(array.span, borrowing: self)
        }
        let page = GuardedMemory(byteCount: array.count * MemoryLayout<Element>.stride, end: end)
        // Quick without optimisation, too.
        array.withUnsafeBytes { page.bytes.copyMemory(from: $0) }
        page.makeReadOnly()
        pages.append(page)
        let elements: UnsafeMutableBufferPointer<Element> = page.elements()
        return _overrideLifetime(
            Span(_unsafeElements: UnsafeBufferPointer(elements)), borrowing: self)
    }

    /// Output number `index`. Each call asks for each of its outputs once.
    @_lifetime(borrow self)
    borrowing func output(_ index: Int) -> MutableSpan<Float> {
        _overrideLifetime(MutableSpan(_unsafeElements: floats[index]), borrowing: self)
    }

    /// Output number `index` among those of a type.
    @_lifetime(borrow self)
    borrowing func output<Element: ModelOutputElement>(
        _ index: Int, of _: Element.Type
    ) -> MutableSpan<Element> {
        let bytes =
            Element.self == Float.self
            ? UnsafeMutableRawBufferPointer(floats[index]) : UnsafeMutableRawBufferPointer(sixteenBits[index])
        return _overrideLifetime(
            MutableSpan(_unsafeElements: bytes.bindMemory(to: Element.self)), borrowing: self)
    }

    /// The outputs that ``PublicCall/gradientCounts(_:)`` counts, as gradients of every input of an objective.
    @_lifetime(borrow self)
    borrowing func objectiveGradients<Element: ModelOutputElement>(
        of type: Element.Type
    ) -> ObjectiveGradientFields<MutableSpan<Element>> {
        ObjectiveGradientFields(
            genePredictions: output(0, of: type), geneNonzero: output(1, of: type),
            cellPredictions: output(2, of: type), cellNonzero: output(3, of: type),
            generatedPredictions: output(4, of: type), cellEmbedding: output(5, of: type),
            secondCellEmbedding: output(6, of: type), cellTypeLogits: output(7, of: type),
            batchLogits: output(8, of: type), reversedBatchLogits: output(9, of: type))
    }

    @_lifetime(borrow self)
    borrowing func norms() -> MutableSpan<Double> {
        _overrideLifetime(MutableSpan(_unsafeElements: doubles), borrowing: self)
    }

    /// Whether nothing was written beside a guarded operand.
    var isIntact: Bool { pages.allSatisfy(\.isIntact) }

    var bits: Data {
        var data = Data()
        withUnsafeBytes(of: value) { data.append(contentsOf: $0) }
        for buffer in floats { data.append(contentsOf: UnsafeRawBufferPointer(buffer)) }
        data.append(contentsOf: UnsafeRawBufferPointer(doubles))
        for buffer in sixteenBits { data.append(contentsOf: UnsafeRawBufferPointer(buffer)) }
        for slot in ObjectiveSlot.allCases {
            gradients?[slot]?.withUnsafeBytes { data.append(contentsOf: $0) }
        }
        return data
    }
}
