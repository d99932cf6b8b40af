// Scratch memory: laid out array by array, then reserved as one block.

import CFastLossThreads

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The layout of the scratch arrays of one call.
package struct ScratchLayout {
    /// The alignment of scratch arrays in bytes: a cache line, and the widest vector.
    package static let alignment = 64

    /// The number of workers that the call may use; some arrays have a part for each.
    package let workers: Int
    /// The bytes of all arrays.
    package private(set) var byteCount = 0
    /// The offset of the next array.
    private var end = 0
    /// Whether the call multiplies matrices by BLAS, which needs memory of its own.
    package var usesBLAS = false

    package init(workers: Int) {
        self.workers = workers
    }

    /// Adds an array of `count` elements. Throws if the layout exceeds the address space.
    package mutating func add<Element: BitwiseCopyable>(
        _ count: Int, of type: Element.Type
    ) throws(LossError) -> ScratchArray<Element> {
        let array = ScratchArray<Element>(offset: end, count: count)
        let (bytes, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Element>.stride)
        let (next, pastEnd) = end.addingReportingOverflow(bytes)
        guard !overflow, !pastEnd, next <= Int.max - Self.alignment else {
            throw .outOfMemory(call: "this call", bytes: .max)
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

    /// Adds the same arrays for each of `copies` workers: all of one worker, then all of the next.
    ///
    /// Where a worker reads rows, its processor prefetches what lies beyond them. There it should not find memory
    /// that another worker writes. Measured: the article Tuning.
    ///
    /// - Parameter add: adds the arrays of one worker.
    package mutating func addCopies<Arrays>(
        _ copies: Int, _ add: (inout ScratchLayout) throws(LossError) -> Arrays
    ) throws(LossError) -> ScratchCopies<Arrays> {
        let start = end
        let arrays = try add(&self)
        let stride = end - start
        _ = try self.add(copies - 1, by: stride, of: UInt8.self)
        return ScratchCopies(arrays: arrays, stride: stride)
    }

    /// A position in the layout.
    package struct Mark {
        fileprivate let end: Int
    }

    /// The position of the next array.
    package var mark: Mark { Mark(end: end) }

    /// Reuses the memory of the arrays that were added after the mark, for plans that run one after the
    /// other.
    package mutating func rewind(to mark: Mark) {
        end = mark.end
    }
}

/// The position of one scratch array.
package struct ScratchArray<Element: BitwiseCopyable> {
    fileprivate let offset: Int
    fileprivate let count: Int
}

/// The positions of arrays that each worker has for itself.
package struct ScratchCopies<Arrays> {
    /// Those of the first worker.
    package let arrays: Arrays
    /// Bytes from a worker's arrays to those of the next.
    fileprivate let stride: Int
}

/// The memory and the workers of a running plan.
package struct Execution {
    /// The number of workers that may run, the calling thread included.
    package let workers: Int
    fileprivate let base: UnsafeMutableRawPointer?

    /// The uninitialised memory of one array of the layout.
    package func pointer<Element>(_ array: ScratchArray<Element>) -> UnsafeMutablePointer<Element> {
        guard let base else {
            // Only a layout without elements reserves no memory, and nobody reads or writes through its
            // pointers.
            return UnsafeMutablePointer(bitPattern: ScratchLayout.alignment)!
        }
        return (base + array.offset).bindMemory(to: Element.self, capacity: array.count)
    }

    /// The memory of one worker's copy of an array, which is one of `copies`.
    package func pointer<Element>(
        _ array: ScratchArray<Element>, ofCopy index: Int, in copies: ScratchCopies<some Any>
    ) -> UnsafeMutablePointer<Element> {
        pointer(ScratchArray(offset: array.offset + index * copies.stride, count: array.count))
    }
}

/// Memory that grows to the largest layout.
package struct ScratchMemory: ~Copyable {
    /// Memory of this size, in bytes, is on huge pages where the system has them: rows of a matrix, which are
    /// kilobytes apart, need fewer translations of addresses. Measured: the article Tuning.
    private static let leastOnHugePages = 8 << 20
    private static let hugePage = 2 << 20

    private var memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    package init() {}

    deinit {
        free(memory.baseAddress)
    }

    /// The bytes held now.
    package var byteCount: Int { memory.count }

    /// Reserves memory for a layout. Earlier contents are lost.
    ///
    /// It uses the C library's allocator, because Swift's ends the process if there is no memory.
    ///
    /// - Parameter call: the name of the computation in the error.
    package mutating func reserve(_ layout: ScratchLayout, for call: String) throws(LossError) -> Execution {
        if layout.byteCount > memory.count {
            free(memory.baseAddress)
            memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)
            var start: UnsafeMutableRawPointer?
            let isLarge = layout.byteCount >= Self.leastOnHugePages
            let alignment = isLarge ? Self.hugePage : ScratchLayout.alignment
            guard posix_memalign(&start, alignment, layout.byteCount) == 0 else {
                throw .outOfMemory(call: call, bytes: layout.byteCount)
            }
            #if os(Linux)
                // A request. Without huge pages the memory is as good.
                if isLarge { madvise(start, layout.byteCount, MADV_HUGEPAGE) }
            #endif
            memory = UnsafeMutableRawBufferPointer(start: start, count: layout.byteCount)
        }
        // After the scratch memory, which could take the room that this finds.
        if layout.usesBLAS, !fastloss_reserve_blas_buffers(Int32(layout.workers)) {
            throw .outOfMemory(call: call, bytes: layout.workers * BLAS.bufferSize)
        }
        return Execution(workers: layout.workers, base: memory.baseAddress)
    }
}
