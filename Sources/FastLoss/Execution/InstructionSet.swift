// The choice of the instruction set, once per process.

import CFastLossKernels

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The instruction sets that the kernels are compiled for.
public enum InstructionSet: String, Sendable, CaseIterable {
    /// The instructions of every processor of the architecture: SSE2 on x86-64, NEON on aarch64.
    case baseline
    /// AVX2 and FMA.
    case avx2
    /// AVX-512.
    case avx512
    /// AVX-512, and large matrix products by the tiles of AMX, in the accuracy of float32. On request alone: see
    /// <doc:Tuning>.
    case amx

    /// The instruction set of this process: ``best``, unless the environment variable `FASTLOSS_ISA` names
    /// another (`baseline`, `avx2`, `avx512` or `amx`).
    ///
    /// A set that the processor lacks, or an unknown name, has no effect. ``RuntimeDescription`` has both the
    /// request and the set in use.
    public static var active: InstructionSet {
        ProcessState.prepare()
        return chosen
    }

    /// The value of `FASTLOSS_ISA`, if it is set.
    public static var requested: String? {
        ProcessState.prepare()
        return asked
    }

    /// The most capable instruction set of this processor that needs no request.
    public static var best: InstructionSet { InstructionSet(fastloss_best_isa()) }

    /// ``active``, for code that ``ProcessState`` itself runs.
    static let chosen: InstructionSet = {
        guard let forced = asked.flatMap(InstructionSet.init(rawValue:)), fastloss_runs(forced.isa) else {
            return best
        }
        return forced
    }()

    private static let asked: String? = getenv("FASTLOSS_ISA").map { String(cString: $0) }

    private init(_ isa: fastloss_isa) {
        self =
            switch isa {
            case FASTLOSS_ISA_AMX: .amx
            case FASTLOSS_ISA_AVX512: .avx512
            case FASTLOSS_ISA_AVX2: .avx2
            default: .baseline
            }
    }

    private var isa: fastloss_isa {
        switch self {
        case .baseline: FASTLOSS_ISA_BASELINE
        case .avx2: FASTLOSS_ISA_AVX2
        case .avx512: FASTLOSS_ISA_AVX512
        case .amx: FASTLOSS_ISA_AMX
        }
    }

    /// The kernels of this instruction set; nil if the processor cannot run them.
    fileprivate var kernels: UnsafePointer<fastloss_kernels>? { fastloss_kernels_for(isa) }

    /// The products of this instruction set.
    var tileProducts: fastloss_tile_products {
        guard
            let products = fastloss_tile_products_for(isa)
                ?? fastloss_tile_products_for(FASTLOSS_ISA_BASELINE)
        else { preconditionFailure("the products of the baseline are part of every build by clang") }
        return products.pointee
    }
}

extension InstructionSet: Comparable {
    /// Orders the sets from the least to the most capable.
    public static func < (left: InstructionSet, right: InstructionSet) -> Bool {
        left.isa.rawValue < right.isa.rawValue
    }
}

/// The kernels of ``InstructionSet/active``.
package let kernels: fastloss_kernels = {
    guard let table = InstructionSet.chosen.kernels ?? InstructionSet.baseline.kernels else {
        preconditionFailure("the kernels of the baseline are part of every build")
    }
    return table.pointee
}()
