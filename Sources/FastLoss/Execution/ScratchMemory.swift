// Scratch memory: laid out array by array, then reserved in one piece.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The scratch arrays of one call, in the order in which they were added.
package struct ScratchLayout {
    /// Where a scratch array starts: a cache line, which is also the widest vector.
    package static let alignment = 64

    /// How many workers the call may use: some arrays have a part for each of them.
    package let workers: Int
    /// Bytes that all arrays take.
    package private(set) var byteCount = 0
    /// Where the next array starts.
    private var end = 0

    package init(workers: Int) {
        self.workers = workers
    }

    /// Adds an array of `count` elements.
    package mutating func add<Element: BitwiseCopyable>(
        _ count: Int, of type: Element.Type
    ) throws(LossError) -> ScratchArray<Element> {
        let array = ScratchArray<Element>(offset: end, count: count)
        let (bytes, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Element>.stride)
        let (next, pastEnd) = end.addingReportingOverflow(bytes)
        guard !overflow, !pastEnd, next <= Int.max - Self.alignment else {
            throw .dimensionTooLarge(argument: "scratch memory", value: count)
        }
        end = (next + Self.alignment - 1) / Self.alignment * Self.alignment
        byteCount = max(byteCount, end)
        return array
    }

    /// Adds `copies` arrays of `count` elements, one after the other.
    package mutating func add<Element: BitwiseCopyable>(
        _ copies: Int, by count: Int, of type: Element.Type
    ) throws(LossError) -> ScratchArray<Element> {
        try add(MatrixShape(rows: copies, columns: count).checkedCount(), of: type)
    }

    /// A place to come back to.
    package struct Mark {
        fileprivate let end: Int
    }

    /// Where the arrays that are added next begin.
    package var mark: Mark { Mark(end: end) }

    /// Lays what is added next over what was added since the mark: plans that run one after the other share their memory.
    package mutating func rewind(to mark: Mark) {
        end = mark.end
    }
}

/// The place of one scratch array.
package struct ScratchArray<Element: BitwiseCopyable> {
    fileprivate let offset: Int
    fileprivate let count: Int
}

/// What a running plan has: the memory of its scratch arrays, and workers.
package struct Execution {
    /// How many workers may run, the calling thread among them.
    package let workers: Int
    fileprivate let base: UnsafeMutableRawPointer?

    /// The uninitialised memory of one array of the layout.
    package func pointer<Element>(_ array: ScratchArray<Element>) -> UnsafeMutablePointer<Element> {
        guard let base else {
            // Only a layout without any element reserves no memory, and nothing is read or written through its pointers.
            return UnsafeMutablePointer(bitPattern: ScratchLayout.alignment)!
        }
        return (base + array.offset).bindMemory(to: Element.self, capacity: array.count)
    }
}

/// Memory that grows to the largest layout and is kept.
package struct ScratchMemory: ~Copyable {
    private var memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    package init() {}

    deinit {
        free(memory.baseAddress)
    }

    /// Bytes that are held now.
    package var byteCount: Int { memory.count }

    /// Makes room for a layout. What the memory held before is lost.
    ///
    /// The C library's allocator, because Swift's ends the process where there is no memory.
    ///
    /// - Parameter call: what needs the memory, in the error's words.
    package mutating func reserve(_ layout: ScratchLayout, for call: String) throws(LossError) -> Execution {
        if layout.byteCount > memory.count {
            free(memory.baseAddress)
            memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)
            var start: UnsafeMutableRawPointer?
            guard posix_memalign(&start, ScratchLayout.alignment, layout.byteCount) == 0 else {
                throw .outOfMemory(call: call, bytes: layout.byteCount)
            }
            memory = UnsafeMutableRawBufferPointer(start: start, count: layout.byteCount)
        }
        return Execution(workers: layout.workers, base: memory.baseAddress)
    }
}
