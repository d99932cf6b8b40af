// Scratch memory and worker count: what a call needs beside its arguments.

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Scratch memory that calls reuse, and the number of workers they may use.
///
/// A training loop makes one workspace and passes it to every call. Memory grows to what the largest call needs and stays, so
/// a call with a shape that was seen before allocates nothing.
///
/// A workspace serves one call at a time: it is not `Sendable`, and each thread of a loop that computes losses on several
/// threads makes its own.
public final class Workspace {
    /// How many workers a call may use, the calling thread among them. Results do not depend on it.
    public let workers: Int

    private var memory: UnsafeMutableRawBufferPointer

    /// - Parameter workers: at least 1; less counts as 1. The default is the environment variable `FASTLOSS_THREADS`, or
    ///   the number of processors that the process may use.
    public init(workers: Int = Workspace.defaultWorkers) {
        self.workers = max(1, workers)
        memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    }

    deinit {
        free(memory.baseAddress)
    }

    /// Bytes of scratch memory that this workspace holds now.
    public var byteCount: Int { memory.count }
}

extension Workspace {
    /// Where a scratch array starts: a cache line, which is also the widest vector.
    package static let alignment = 64

    /// A plan of scratch arrays: lay them out, then ``Workspace/reserve(_:)`` them all at once.
    package struct Layout {
        fileprivate var byteCount = 0

        package init() {}

        /// Plans `count` elements and returns their offset in bytes.
        package mutating func add<Element: BitwiseCopyable>(
            _ count: Int, of type: Element.Type
        ) throws(LossError) -> Scratch<Element> {
            let scratch = Scratch<Element>(offset: byteCount, count: count)
            let (bytes, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Element>.stride)
            let (end, pastEnd) = byteCount.addingReportingOverflow(bytes)
            guard !overflow, !pastEnd, end <= Int.max - Workspace.alignment else {
                throw .dimensionTooLarge(argument: "scratch memory", value: count)
            }
            byteCount = (end + Workspace.alignment - 1) / Workspace.alignment * Workspace.alignment
            return scratch
        }
    }

    /// The place of one scratch array in a workspace.
    package struct Scratch<Element: BitwiseCopyable> {
        fileprivate let offset: Int
        fileprivate let count: Int
    }

    /// Makes room for a layout. What the memory held before is lost.
    ///
    /// The C library's allocator, because Swift's ends the process where there is no memory.
    package func reserve(_ layout: Layout) throws(LossError) {
        guard layout.byteCount > memory.count else { return }
        free(memory.baseAddress)
        memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        var start: UnsafeMutableRawPointer?
        guard posix_memalign(&start, Workspace.alignment, layout.byteCount) == 0 else {
            throw .outOfMemory(bytes: layout.byteCount)
        }
        memory = UnsafeMutableRawBufferPointer(start: start, count: layout.byteCount)
    }

    /// The uninitialised memory of one scratch array of the layout that was reserved last.
    package func pointer<Element>(_ scratch: Scratch<Element>) -> UnsafeMutablePointer<Element> {
        guard let base = memory.baseAddress else {
            // Only a layout without any element reserves no memory, and nothing is read or written through its pointers.
            return UnsafeMutablePointer(bitPattern: Workspace.alignment)!
        }
        return (base + scratch.offset).bindMemory(to: Element.self, capacity: scratch.count)
    }
}
