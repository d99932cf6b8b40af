// The only callers of CBLAS: named single-precision products on row-major matrices.

import CFastLossThreads
import COpenBLAS

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

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
        guard smallProductsAllocate,
            allocatesAsSmallProduct(rows: a.rows, columns: b.columns, depth: a.columns)
        else {
            return gemm(
                CblasNoTrans, CblasNoTrans, rows: a.rows, columns: b.columns, depth: a.columns, alpha, a, b,
                beta, c,
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
        gemm(
            CblasNoTrans, CblasTrans, rows: a.rows, columns: b.rows, depth: a.columns, alpha, a, b, beta, c,
            stride)
    }

    /// C = α·Aᵀ·B + β·C.
    package static func multiplyTransposedLeft(
        _ a: MatrixPointer, _ b: MatrixPointer, alpha: Float = 1, beta: Float = 0,
        into c: UnsafeMutablePointer<Float>, stride: Int
    ) {
        gemm(
            CblasTrans, CblasNoTrans, rows: a.columns, columns: b.columns, depth: a.rows, alpha, a, b, beta,
            c, stride)
    }

    private static func gemm(
        _ transA: CBLAS_TRANSPOSE, _ transB: CBLAS_TRANSPOSE, rows: Int, columns: Int, depth: Int,
        _ alpha: Float,
        _ a: MatrixPointer, _ b: MatrixPointer, _ beta: Float, _ c: UnsafeMutablePointer<Float>, _ stride: Int
    ) {
        guard rows > 0, columns > 0 else { return }
        assert(isPrepared, "a plan with products prepares BLAS before work is shared")
        prepare()
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
    private static let smallProductsAllocate = ["SkylakeX", "Cooperlake", "SapphireRapids"].contains(
        String(cString: coreNameText))

    private static let allocationFreeDepth = 31

    private static func allocatesAsSmallProduct(rows: Int, columns: Int, depth: Int) -> Bool {
        // 10⁶ products is where OpenBLAS leaves the small kernels.
        (1...8).contains(columns % 16) && depth > allocationFreeDepth
            && Double(rows) * Double(columns) * Double(depth) <= 1e6
    }
}

extension BLAS {
    /// Sets OpenBLAS to one thread, in the first call of the process. A plan with products calls this before any work is shared.
    ///
    /// OpenBLAS's thread count is process-wide, its threaded products take a global lock, and its kernels
    /// change with the count; one thread per call is what lets products run side by side and give the same
    /// bits every time. A process that uses OpenBLAS with threads of its own keeps its setting with
    /// `FASTLOSS_KEEP_BLAS_THREADS=1`.
    package static func prepare() {
        fastloss_once(FASTLOSS_ONCE_BLAS) {
            if getenv("FASTLOSS_KEEP_BLAS_THREADS").map({ strcmp($0, "1") == 0 }) != true {
                openblas_set_num_threads(1)
            }
            // OpenBLAS puts the text together in one static buffer at every call: two threads that ask at a time may read
            // half of it.
            BLAS.keptConfiguration = UnsafePointer(strdup(openblas_get_config()))
            _ = BLAS.smallProductsAllocate
            BLAS.isPrepared = true
        }
    }

    /// Whether ``prepare()`` has been called. Written once, before any work is shared.
    nonisolated(unsafe) private static var isPrepared = false

    /// OpenBLAS's description of its build. Nil where there was no memory to keep it in. Written once, as ``isPrepared``.
    nonisolated(unsafe) private static var keptConfiguration: UnsafePointer<CChar>?

    /// OpenBLAS's own description of its build.
    package static var configurationText: UnsafePointer<CChar> {
        keptConfiguration ?? UnsafePointer(openblas_get_config())
    }

    /// The processor core that OpenBLAS chose its kernels for.
    package static var coreNameText: UnsafePointer<CChar> { UnsafePointer(openblas_get_corename()) }

    /// Threads that OpenBLAS uses per call, once FastLoss has made its setting.
    package static var threads: Int {
        prepare()
        return Int(openblas_get_num_threads())
    }

    /// What stands in for ``libraryPathText`` where OpenBLAS is linked statically.
    package static let staticLibrary = "unknown (linked statically)"

    /// The file of the shared library that `cblas_sgemm` comes from; nil where it is linked statically.
    package static var libraryPathText: UnsafePointer<CChar>? {
        dlsym(dlopen(nil, RTLD_LAZY), "cblas_sgemm").flatMap { fastloss_library_of($0) }
    }
}
