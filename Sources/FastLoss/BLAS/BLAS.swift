// The only callers of CBLAS: named single-precision products on row-major matrices.

import CFastLossKernels
import COpenBLAS

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// A row-major matrix somewhere in memory, possibly a block of a larger one.
package struct MatrixPointer {
    package let base: UnsafePointer<Float>
    package let rows: Int
    package let columns: Int
    /// Elements between the starts of two rows.
    package let stride: Int

    package init(_ base: UnsafePointer<Float>, rows: Int, columns: Int, stride: Int? = nil) {
        self.base = base
        self.rows = rows
        self.columns = columns
        self.stride = stride ?? columns
    }
}

/// OpenBLAS, called with one thread: FastLoss spreads whole products over its workers instead.
///
/// `cblas_sgemm` is used for every product, a single row included: OpenBLAS's matrix–vector kernels are known
/// to read beyond their operands on some processors.
package enum BLAS {
    /// Throws where a side is larger than BLAS's 32-bit sizes; called before any work is done.
    package static func checkDimension(_ argument: String, _ value: Int) throws(LossError) {
        guard value <= Int32.max else { throw .dimensionTooLarge(argument: argument, value: value) }
    }

    /// C = α·A·B + β·C. With β = 0, C is written without being read.
    package static func multiply(
        _ a: MatrixPointer, _ b: MatrixPointer, alpha: Float = 1, beta: Float = 0,
        into c: UnsafeMutablePointer<Float>, stride: Int
    ) {
        guard smallProductsAllocate, allocatesAsSmallProduct(rows: a.rows, columns: b.columns, depth: a.columns)
        else {
            return gemm(
                CblasNoTrans, CblasNoTrans, rows: a.rows, columns: b.columns, depth: a.columns, alpha, a, b, beta, c,
                stride)
        }
        for start in Swift.stride(from: 0, to: a.columns, by: allocationFreeDepth) {
            gemm(
                CblasNoTrans, CblasNoTrans, rows: a.rows, columns: b.columns,
                depth: min(allocationFreeDepth, a.columns - start), alpha,
                MatrixPointer(a.base + start, rows: a.rows, columns: a.columns, stride: a.stride),
                MatrixPointer(b.base + start * b.stride, rows: b.rows, columns: b.columns, stride: b.stride),
                start == 0 ? beta : 1, c, stride)
        }
    }

    /// C = α·A·Bᵀ + β·C, for two matrices whose rows are compared: similarities.
    package static func multiplyTransposedRight(
        _ a: MatrixPointer, _ b: MatrixPointer, alpha: Float = 1, beta: Float = 0,
        into c: UnsafeMutablePointer<Float>, stride: Int
    ) {
        gemm(CblasNoTrans, CblasTrans, rows: a.rows, columns: b.rows, depth: a.columns, alpha, a, b, beta, c, stride)
    }

    /// C = α·Aᵀ·B + β·C.
    package static func multiplyTransposedLeft(
        _ a: MatrixPointer, _ b: MatrixPointer, alpha: Float = 1, beta: Float = 0,
        into c: UnsafeMutablePointer<Float>, stride: Int
    ) {
        gemm(
            CblasTrans, CblasNoTrans, rows: a.columns, columns: b.columns, depth: a.rows, alpha, a, b, beta, c, stride)
    }

    private static func gemm(
        _ transA: CBLAS_TRANSPOSE, _ transB: CBLAS_TRANSPOSE, rows: Int, columns: Int, depth: Int, _ alpha: Float,
        _ a: MatrixPointer, _ b: MatrixPointer, _ beta: Float, _ c: UnsafeMutablePointer<Float>, _ stride: Int
    ) {
        guard rows > 0, columns > 0 else { return }
        _ = singleThreaded
        // Leading dimensions are at least 1 by BLAS's rules, also for matrices without columns.
        cblas_sgemm(
            CblasRowMajor, transA, transB, Int32(rows), Int32(columns), Int32(depth), alpha,
            a.base, Int32(max(1, a.stride)), b.base, Int32(max(1, b.stride)), beta, c, Int32(max(1, stride)))
    }
}

// MARK: - Products that would allocate

extension BLAS {
    /// Whether OpenBLAS takes small products A·B to the kernel of its AVX-512 cores that allocates:
    /// `sgemm_small_kernel_nn` copies the last columns of the result, where 1 to 8 are left over by vectors
    /// of 16 and the depth is at least 32, into memory that it gets from malloc, in every call. In pieces of
    /// a smaller depth the same kernel does without. Read from OpenBLAS's sources, and seen in
    /// AllocationTests with OPENBLAS_CORETYPE=SkylakeX; products of the other two forms were not seen to
    /// allocate.
    private static let smallProductsAllocate = ["SkylakeX", "Cooperlake", "SapphireRapids"].contains(coreName)

    private static let allocationFreeDepth = 31

    private static func allocatesAsSmallProduct(rows: Int, columns: Int, depth: Int) -> Bool {
        // 10⁶ products is where OpenBLAS leaves the small kernels.
        (1...8).contains(columns % 16) && depth > allocationFreeDepth
            && Double(rows) * Double(columns) * Double(depth) <= 1e6
    }
}

extension BLAS {
    /// Sets OpenBLAS to one thread, once per process, before its first product.
    ///
    /// OpenBLAS's thread count is process-wide, its threaded products take a global lock, and its kernels
    /// change with the count; one thread per call is what lets products run side by side and give the same
    /// bits every time. A process that uses OpenBLAS with threads of its own keeps its setting with
    /// `FASTLOSS_KEEP_BLAS_THREADS=1`.
    private static let singleThreaded: Bool = {
        guard !keepsThreads else { return false }
        openblas_set_num_threads(1)
        return true
    }()

    /// Whether the environment asks to leave OpenBLAS's thread count alone.
    package static let keepsThreads = getenv("FASTLOSS_KEEP_BLAS_THREADS").map { String(cString: $0) } == "1"

    /// OpenBLAS's own description of its build. Asked for once: OpenBLAS puts the text together in one static
    /// buffer at every call, so that two threads that ask at a time may read half of it.
    package static let configuration = String(cString: openblas_get_config())

    /// The processor core that OpenBLAS chose its kernels for.
    package static var coreName: String { String(cString: openblas_get_corename()) }

    /// Threads that OpenBLAS uses per call, once FastLoss has made its setting.
    package static var threads: Int {
        _ = singleThreaded
        return Int(openblas_get_num_threads())
    }

    /// The file of the shared library that `cblas_sgemm` comes from.
    package static var libraryPath: String {
        guard let symbol = dlsym(dlopen(nil, RTLD_LAZY), "cblas_sgemm"), let path = fastloss_library_of(symbol) else {
            return "unknown (linked statically)"
        }
        return String(cString: path)
    }
}
