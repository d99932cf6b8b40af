// The 16-bit element types by their bits.

import CFastLossKernels
import FastLoss
import Testing

/// A 16-bit element by its bits.
protocol SixteenBits: ModelOutputElement {
    var bitPattern: UInt16 { get }
    init(bitPattern: UInt16)
}

extension BFloat16: SixteenBits {}
extension Float16: SixteenBits {}

extension SixteenBits {
    /// The type in the kernels' interface.
    static var kernelElement: fastloss_element {
        elementType == .bfloat16 ? FASTLOSS_BFLOAT16 : FASTLOSS_FLOAT16
    }
}

/// Expects the elements that are the nearest to these floats.
func expectBits<Element: SixteenBits>(
    _ elements: [Element], _ floats: [Float], _ label: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    let differing = zip(elements, floats).enumerated().first {
        $0.element.0.bitPattern != Element($0.element.1).bitPattern
    }
    #expect(
        elements.count == floats.count && differing == nil,
        "\(label) \(differing.map { "at \($0.offset): \($0.element)" } ?? "")",
        sourceLocation: sourceLocation)
}
