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

/// Products through OpenBLAS with one thread each. FastLoss spreads products over its own workers.
///
/// Every product uses `cblas_sgemm`, also of a single row: OpenBLAS's matrix–vector kernels read beyond their
/// operands on some processors.
package enum BLAS {
    /// Throws if a size exceeds the 32-bit integers of BLAS.
    package static func checkDimension(_ argument: String, _ value: Int) throws(LossError) {
        guard value <= Int32.max else { throw .dimensionTooLarge(argument: argument, value: value) }
    }

    /// C = α·A·B + β·C. With β = 0, C is not read.
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

    /// C = α·A·Bᵀ + β·C.
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
        // BLAS requires leading dimensions of at least 1, also of matrices without columns.
        cblas_sgemm(
            CblasRowMajor, transA, transB, Int32(rows), Int32(columns), Int32(depth), alpha,
            a.base, Int32(max(1, a.stride)), b.base, Int32(max(1, b.stride)), beta, c, Int32(max(1, stride)))
    }
}

// MARK: - Products that would allocate

extension BLAS {
    /// Whether OpenBLAS allocates memory for small products A·B.
    ///
    /// The kernel `sgemm_small_kernel_nn` of its AVX-512 cores calls malloc if the columns leave 1 to 8 over
    /// after vectors of 16 and the depth is at least 32. With a smaller depth it does not, so such a product
    /// is split. AllocationTests shows both with OPENBLAS_CORETYPE=SkylakeX. Products of the other two forms
    /// do not allocate.
    private static let smallProductsAllocate = ["SkylakeX", "Cooperlake", "SapphireRapids"].contains(
        String(cString: coreNameText))

    private static let allocationFreeDepth = 31

    private static func allocatesAsSmallProduct(rows: Int, columns: Int, depth: Int) -> Bool {
        // OpenBLAS uses the small kernels for up to 10⁶ multiplications.
        (1...8).contains(columns % 16) && depth > allocationFreeDepth
            && Double(rows) * Double(columns) * Double(depth) <= 1e6
    }
}

extension BLAS {
    /// Sets OpenBLAS to one thread in the first call of the process. A plan with products calls
    /// ``prepare(in:)`` before it shares work.
    ///
    /// OpenBLAS's thread count is process-wide, its threaded products take a global lock, and its kernels
    /// depend on the count. With one thread per call, products run concurrently and always give the same
    /// bits. A process that uses OpenBLAS with threads keeps its own setting with
    /// `FASTLOSS_KEEP_BLAS_THREADS=1`.
    package static func prepare() {
        fastloss_once(FASTLOSS_ONCE_BLAS) {
            if getenv("FASTLOSS_KEEP_BLAS_THREADS").map({ strcmp($0, "1") == 0 }) != true {
                openblas_set_num_threads(1)
            }
            // OpenBLAS writes the text to one static buffer in every call, so that two threads would race.
            BLAS.keptConfiguration = UnsafePointer(strdup(openblas_get_config()))
            _ = BLAS.smallProductsAllocate
            BLAS.isPrepared = true
        }
    }

    /// The same, and lets the call reserve the memory that OpenBLAS needs for its products.
    package static func prepare(in layout: inout ScratchLayout) {
        prepare()
        layout.usesBLAS = true
    }

    /// The bytes that OpenBLAS allocates for each product that runs at the same time.
    static let bufferSize = Int(FASTLOSS_BLAS_BUFFER_SIZE)

    /// Whether ``prepare()`` was called. Written once, before any work is shared.
    nonisolated(unsafe) private static var isPrepared = false

    /// A copy of OpenBLAS's description of its build; nil if there was no memory for it. Written once, as
    /// ``isPrepared``.
    nonisolated(unsafe) private static var keptConfiguration: UnsafePointer<CChar>?

    /// OpenBLAS's version and build options, in its own words.
    package static var configurationText: UnsafePointer<CChar> {
        keptConfiguration ?? UnsafePointer(openblas_get_config())
    }

    /// The processor core whose kernels OpenBLAS uses.
    package static var coreNameText: UnsafePointer<CChar> { UnsafePointer(openblas_get_corename()) }

    /// The value of `OPENBLAS_CORETYPE`, by which the environment chooses the kernels; nil if it is not set.
    package static var requestedCore: String? { getenv("OPENBLAS_CORETYPE").map { String(cString: $0) } }

    /// The threads that OpenBLAS uses per call, after FastLoss's setting.
    package static var threads: Int {
        prepare()
        return Int(openblas_get_num_threads())
    }

    /// The text in place of ``libraryPathText`` if OpenBLAS is linked statically.
    package static let staticLibrary = "unknown (linked statically)"

    /// The file of the shared library that holds OpenBLAS; nil if it is linked statically.
    package static var libraryPathText: UnsafePointer<CChar>? {
        // The core's name is a constant of OpenBLAS. dlsym would not find a library that was loaded with
        // RTLD_LOCAL, as Python loads this one, and might find the BLAS of another.
        guard let file = fastloss_library_of(coreNameText) else { return nil }
        let own = fastloss_library_of(FastLossVersion.text.utf8Start)
        return own.map { strcmp($0, file) == 0 } == true ? nil : file
    }
}
