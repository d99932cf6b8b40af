// Turns bytes into shapes, options and numbers, most of them ordinary and some of them hostile.

/// The bytes of one execution, read from front to back. Behind their end they are zeros.
struct FuzzInput {
    private let bytes: UnsafeRawBufferPointer
    private var position = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    mutating func byte() -> UInt8 {
        guard position < bytes.count else { return 0 }
        defer { position += 1 }
        return bytes[position]
    }

    mutating func bool() -> Bool { byte() & 1 == 1 }

    /// True once in `period` times.
    mutating func rarely(_ period: UInt8 = 16) -> Bool { byte() % period == 1 }

    mutating func int(_ range: ClosedRange<Int>) -> Int { range.lowerBound + Int(byte()) % range.count }

    mutating func choice<Element>(_ elements: [Element]) -> Element { elements[Int(byte()) % elements.count] }

    mutating func word() -> UInt32 {
        (0..<4).reduce(0) { word, _ in word << 8 | UInt32(byte()) }
    }

    /// A count that is wrong now and then.
    mutating func count(_ right: Int) -> Int {
        guard rarely(64) else { return right }
        return max(0, right + int(-2...2))
    }

    private static let special: [Float] = [
        .nan, .infinity, -.infinity, 0, -0.0, .leastNonzeroMagnitude, -.leastNormalMagnitude,
        .greatestFiniteMagnitude, -.greatestFiniteMagnitude, 1, 0x1p-23, 1 - 0x1p-24, 1e18, -1e-18, 1e38,
        88.8,
    ]

    /// Which numbers an array holds.
    enum Numbers: CaseIterable {
        /// Normal-sized numbers in [-8, 8).
        case ordinary
        /// Small integers, which collide and cancel.
        case integers
        /// Ordinary ones, some of them special.
        case mixed
        /// Any bits at all.
        case bits
    }

    mutating func number(_ numbers: Numbers) -> Float {
        switch numbers {
        case .ordinary: Float(Int16(truncatingIfNeeded: Int(byte()) << 8 | Int(byte()))) / 4096
        case .integers: Float(Int8(bitPattern: byte()) % 4)
        case .mixed: rarely() ? choice(Self.special) : number(.ordinary)
        case .bits: Float(bitPattern: word())
        }
    }

    mutating func numbers(_ count: Int, _ kinds: [Numbers] = Numbers.allCases) -> [Float] {
        let kind = choice(kinds)
        return (0..<count).map { _ in number(kind) }
    }

    /// Numbers in [0, 1], but for special ones now and then.
    mutating func probabilities(_ count: Int) -> [Float] {
        let hostile = rarely(8)
        return (0..<count).map { _ in
            hostile && rarely() ? choice(Self.special) : Float(Int(byte()) << 8 | Int(byte())) / 65535
        }
    }

    mutating func mask(_ count: Int) -> [Bool] {
        let density = byte() % 5
        return (0..<count).map { _ in density == 0 ? false : density == 4 ? true : bool() }
    }

    mutating func labels(_ count: Int, classes: Int, ignored: Int32) -> [Int32] {
        let hostile = rarely(16)
        return (0..<count).map { _ in
            if hostile, rarely(8) { return Int32(bitPattern: word()) }
            return rarely(8) ? ignored : Int32(int(0...max(0, classes - 1)))
        }
    }

    mutating func scale() -> Float { rarely(8) ? number(.mixed) : choice([1, 0.5, -3, 65536]) }
}
