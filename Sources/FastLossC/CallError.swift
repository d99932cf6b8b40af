// What a call from C can end with: FastLoss's own errors, and those that only C can make; each with its
// status and its message.

import CFastLoss
import FastLoss

/// Why a call failed.
enum CallError: Error {
    /// What the Swift API throws.
    case loss(LossError)
    case nullPointer(argument: String, elements: Int?)
    case misalignedPointer(argument: String, address: UInt, alignment: Int)
    case invalidStride(Stride, of: String, stride: Int, least: Int)
    case strideOfMatrix(gradient: String, cellStride: Int64)
    case invalidEnumeration(name: String, value: Int32)
    case invalidUpdate(of: String, value: Int32)
    case unknownTerms(bits: UInt32)
    case structSize(type: String, size: Int, expected: Int)
    case unknownFields(type: String, size: Int, expected: Int)
    case reservedField(name: String, value: Int32)
    case workers(Int64)
    case workspaceBusy

    /// What a stride steps over.
    enum Stride {
        case rows
        case tokens
        case cells
    }
}

extension CallError {
    var status: fastloss_status {
        switch self {
        case .loss(let error): error.status
        case .nullPointer: fastloss_status(FASTLOSS_ERROR_NULL_POINTER)
        case .misalignedPointer: fastloss_status(FASTLOSS_ERROR_MISALIGNED_POINTER)
        case .invalidStride, .strideOfMatrix: fastloss_status(FASTLOSS_ERROR_INVALID_STRIDE)
        case .invalidEnumeration, .invalidUpdate, .unknownTerms:
            fastloss_status(FASTLOSS_ERROR_INVALID_ENUMERATION)
        case .structSize, .unknownFields, .reservedField: fastloss_status(FASTLOSS_ERROR_INVALID_STRUCT)
        case .workers: fastloss_status(FASTLOSS_ERROR_INVALID_PARAMETER)
        case .workspaceBusy: fastloss_status(FASTLOSS_ERROR_WORKSPACE_BUSY)
        }
    }
}

extension CallError {
    /// What `fastloss_last_error` says.
    var message: Message {
        switch self {
        case .loss(let error):
            error.message
        case .nullPointer(let argument, nil):
            "\(argument) is NULL"
        case .nullPointer(let argument, let elements?):
            "\(argument) is NULL, but it must have \(elements) elements"
        case .misalignedPointer(let argument, let address, let alignment):
            "\(argument) is at address \(address), but it must be a multiple of \(alignment)"
        case .invalidStride(.rows, let name, let stride, let least):
            "the stride of \(name) is \(stride), but it must be at least \(least), the number of columns"
        case .invalidStride(.tokens, let name, let stride, let least):
            "the token stride of \(name) is \(stride), but it must be at least \(least), the number of columns"
        case .invalidStride(.cells, let name, let stride, let least):
            "the cell stride of \(name) is \(stride), but it must be at least \(least), what the tokens of a cell take"
        case .strideOfMatrix(let gradient, let stride):
            "\(gradient).cell_stride is \(stride), but it must be 0: only token states have one"
        case .invalidEnumeration(let name, let value):
            "\(name) is \(value), which is none of its values"
        case .invalidUpdate(let gradient, let value):
            "\(gradient).update is \(value), which is none of its values"
        case .unknownTerms(let bits):
            "objective.terms has the bits \(bits, radix: 2), but only the lowest \(FASTLOSS_TERM_COUNT) are terms"
        case .structSize(let type, let size, let expected):
            """
            the size of \(type) is \(size), but it must be \(expected): start with the initialiser of fastloss.h
            """
        case .unknownFields(let type, let size, let expected):
            """
            \(type) has \(size) bytes, of which this library knows \(expected); what it does not know must be 0
            """
        case .reservedField(let name, let value):
            "\(name) is \(value), but it must be 0"
        case .workers(let workers):
            "workers is \(workers), but it must be between 0 and \(Workspace.mostWorkers)"
        case .workspaceBusy:
            "the workspace is in use by another call; make one for each thread"
        }
    }
}

extension LossError {
    fileprivate var status: fastloss_status {
        let status =
            switch self {
            case .shapeMismatch: FASTLOSS_ERROR_SHAPE_MISMATCH
            case .invalidShape: FASTLOSS_ERROR_INVALID_SHAPE
            case .dimensionTooLarge: FASTLOSS_ERROR_DIMENSION_TOO_LARGE
            case .invalidParameter: FASTLOSS_ERROR_INVALID_PARAMETER
            case .emptySelection: FASTLOSS_ERROR_EMPTY_SELECTION
            case .labelOutOfRange: FASTLOSS_ERROR_LABEL_OUT_OF_RANGE
            case .probabilityOutOfRange: FASTLOSS_ERROR_PROBABILITY_OUT_OF_RANGE
            case .overlappingBuffers: FASTLOSS_ERROR_OVERLAPPING_BUFFERS
            case .missingInput: FASTLOSS_ERROR_MISSING_INPUT
            case .gradientWithoutInput: FASTLOSS_ERROR_GRADIENT_WITHOUT_INPUT
            case .notFinite: FASTLOSS_ERROR_NOT_FINITE
            case .factorizationFailed: FASTLOSS_ERROR_FACTORIZATION_FAILED
            case .outOfMemory: FASTLOSS_ERROR_OUT_OF_MEMORY
            }
        return fastloss_status(status)
    }
}

/// Runs a call of the Swift API, whose errors become those of the C interface.
func lifting<Result: ~Copyable>(_ body: () throws(LossError) -> Result) throws(CallError) -> Result {
    do throws(LossError) { return try body() } catch { throw .loss(error) }
}

/// Keeps the message of an error for `fastloss_last_error`, if there is memory for it, and returns its status.
func fail(_ error: CallError) -> fastloss_status {
    ThreadState.current?.keep(error.message)
    return error.status
}

/// The status of a call that needs no workspace.
func status(of body: () throws(CallError) -> Void) -> fastloss_status {
    do throws(CallError) {
        try body()
        return fastloss_status(FASTLOSS_OK)
    } catch {
        return fail(error)
    }
}

// MARK: - Exported

@c @implementation
public func fastloss_last_error() -> UnsafePointer<CChar>? {
    ThreadState.existing?.message ?? staticText("")
}

@c @implementation
public func fastloss_status_name(_ status: fastloss_status) -> UnsafePointer<CChar>? {
    switch Int(status) {
    case FASTLOSS_OK: staticText("FASTLOSS_OK")
    case FASTLOSS_ERROR_SHAPE_MISMATCH: staticText("FASTLOSS_ERROR_SHAPE_MISMATCH")
    case FASTLOSS_ERROR_INVALID_SHAPE: staticText("FASTLOSS_ERROR_INVALID_SHAPE")
    case FASTLOSS_ERROR_DIMENSION_TOO_LARGE: staticText("FASTLOSS_ERROR_DIMENSION_TOO_LARGE")
    case FASTLOSS_ERROR_INVALID_PARAMETER: staticText("FASTLOSS_ERROR_INVALID_PARAMETER")
    case FASTLOSS_ERROR_EMPTY_SELECTION: staticText("FASTLOSS_ERROR_EMPTY_SELECTION")
    case FASTLOSS_ERROR_LABEL_OUT_OF_RANGE: staticText("FASTLOSS_ERROR_LABEL_OUT_OF_RANGE")
    case FASTLOSS_ERROR_PROBABILITY_OUT_OF_RANGE: staticText("FASTLOSS_ERROR_PROBABILITY_OUT_OF_RANGE")
    case FASTLOSS_ERROR_OVERLAPPING_BUFFERS: staticText("FASTLOSS_ERROR_OVERLAPPING_BUFFERS")
    case FASTLOSS_ERROR_MISSING_INPUT: staticText("FASTLOSS_ERROR_MISSING_INPUT")
    case FASTLOSS_ERROR_GRADIENT_WITHOUT_INPUT: staticText("FASTLOSS_ERROR_GRADIENT_WITHOUT_INPUT")
    case FASTLOSS_ERROR_NOT_FINITE: staticText("FASTLOSS_ERROR_NOT_FINITE")
    case FASTLOSS_ERROR_FACTORIZATION_FAILED: staticText("FASTLOSS_ERROR_FACTORIZATION_FAILED")
    case FASTLOSS_ERROR_OUT_OF_MEMORY: staticText("FASTLOSS_ERROR_OUT_OF_MEMORY")
    case FASTLOSS_ERROR_NULL_POINTER: staticText("FASTLOSS_ERROR_NULL_POINTER")
    case FASTLOSS_ERROR_MISALIGNED_POINTER: staticText("FASTLOSS_ERROR_MISALIGNED_POINTER")
    case FASTLOSS_ERROR_INVALID_STRIDE: staticText("FASTLOSS_ERROR_INVALID_STRIDE")
    case FASTLOSS_ERROR_INVALID_ENUMERATION: staticText("FASTLOSS_ERROR_INVALID_ENUMERATION")
    case FASTLOSS_ERROR_INVALID_STRUCT: staticText("FASTLOSS_ERROR_INVALID_STRUCT")
    case FASTLOSS_ERROR_WORKSPACE_BUSY: staticText("FASTLOSS_ERROR_WORKSPACE_BUSY")
    default: staticText("unknown status")
    }
}

/// A literal as C has it: it ends with 0 and lives as long as the library.
func staticText(_ text: StaticString) -> UnsafePointer<CChar> {
    UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}
