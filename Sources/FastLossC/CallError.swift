// The errors of calls from C, with their statuses and messages: those of the Swift API and those of C alone.

import CFastLoss
import FastLoss

/// Why a call failed.
enum CallError: Error {
    /// An error of the Swift API.
    case loss(LossError)
    /// An error of the Swift API in the total objective.
    case objective(LossError)
    /// An error of the Swift API in a task head.
    case head(LossError)
    /// A gradient of a part that the head does not have.
    case gradientOfAbsentPart(String)
    case missingInput(term: Int, input: String)
    case weight(term: Int, Float)
    case nullPointer(argument: String, elements: Int?)
    case misalignedPointer(argument: String, address: UInt, alignment: Int)
    case invalidTokenShape(cells: Int, tokens: Int, columns: Int)
    case invalidStride(Stride, of: String, stride: Int, least: Int)
    case strideOfMatrix(gradient: String, cellStride: Int64)
    case invalidEnumeration(name: String, value: Int32)
    case invalidUpdate(of: String, value: Int32)
    case unknownTerms(bits: UInt32)
    case structSize(type: String, size: Int, expected: Int)
    case unknownFields(type: String, size: Int, expected: Int)
    case reservedField(name: String, value: Int32)
    case floatsOnly(argument: String)
    case workers(Int64)
    case workspaceBusy

    /// The unit that a stride steps over.
    enum Stride {
        case rows
        case tokens
        case cells
    }
}

extension CallError {
    var status: fastloss_status {
        switch self {
        case .loss(let error), .objective(let error), .head(let error): error.status
        case .gradientOfAbsentPart: fastloss_status(FASTLOSS_ERROR_GRADIENT_WITHOUT_INPUT)
        case .missingInput: fastloss_status(FASTLOSS_ERROR_MISSING_INPUT)
        case .nullPointer: fastloss_status(FASTLOSS_ERROR_NULL_POINTER)
        case .misalignedPointer: fastloss_status(FASTLOSS_ERROR_MISALIGNED_POINTER)
        case .invalidTokenShape: fastloss_status(FASTLOSS_ERROR_INVALID_SHAPE)
        case .invalidStride, .strideOfMatrix: fastloss_status(FASTLOSS_ERROR_INVALID_STRIDE)
        case .invalidEnumeration, .invalidUpdate, .unknownTerms:
            fastloss_status(FASTLOSS_ERROR_INVALID_ENUMERATION)
        case .structSize, .unknownFields, .reservedField: fastloss_status(FASTLOSS_ERROR_INVALID_STRUCT)
        case .weight, .floatsOnly, .workers: fastloss_status(FASTLOSS_ERROR_INVALID_PARAMETER)
        case .workspaceBusy: fastloss_status(FASTLOSS_ERROR_WORKSPACE_BUSY)
        }
    }
}

extension CallError {
    /// The message for `fastloss_last_error`. It names parameters, members and constants as the headers do.
    var message: Message {
        switch self {
        case .loss(let error): error.message(naming: .function)
        case .objective(let error): error.message(naming: .objective)
        case .head(let error): error.message(naming: .head)
        default: messageOfCall
        }
    }

    /// The message of an error of C alone.
    private var messageOfCall: Message {
        switch self {
        case .loss, .objective, .head:
            message
        case .gradientOfAbsentPart(let gradient):
            "\(gradient) has a buffer, but the head does not have this part"
        case .missingInput(let term, let input):
            "the term \(nameOfTerm(term)) is enabled, but \(input) is NULL"
        case .weight(let term, let weight):
            "the weight of \(nameOfTerm(term)) is \(weight), but it must be finite"
        case .nullPointer(let argument, nil):
            "\(argument) is NULL"
        case .nullPointer(let argument, let elements?):
            "\(argument) is NULL, but it must have \(elements) elements"
        case .misalignedPointer(let argument, let address, let alignment):
            "\(argument) is at address \(address), but it must be a multiple of \(alignment)"
        case .invalidTokenShape(let cells, let tokens, let columns):
            """
            a shape of \(cells) cells, \(tokens) tokens and \(columns) columns is invalid: all must be at \
            least 0, and the states must fit the address space
            """
        case .invalidStride(.rows, let name, let stride, let least):
            "the stride of \(name) is \(stride), but it must be at least \(least), the number of columns"
        case .invalidStride(.tokens, let name, let stride, let least):
            "the token stride of \(name) is \(stride), but it must be at least \(least), the number of columns"
        case .invalidStride(.cells, let name, let stride, let least):
            "the cell stride of \(name) is \(stride), but it must be at least \(least), the extent of a cell"
        case .strideOfMatrix(let gradient, let stride):
            "\(gradient).cell_stride is \(stride), but it must be 0 for a matrix"
        case .invalidEnumeration(let name, let value):
            "\(name) is \(value), which is not a constant of its enumeration"
        case .invalidUpdate(let gradient, let value):
            "\(gradient).update is \(value), which is not a constant of its enumeration"
        case .unknownTerms(let bits):
            "objective.terms has bits \(bits, radix: 2), but only the lowest \(FASTLOSS_TERM_COUNT) are terms"
        case .structSize(let type, let size, let expected):
            "\(type).size is \(size), but it must be \(expected); the initialiser in the header sets it"
        case .unknownFields(let type, let size, let expected):
            "\(type) has \(size) bytes, but those after the \(expected) that this library knows must be 0"
        case .reservedField(let name, let value):
            "\(name) is \(value), but it must be 0"
        case .floatsOnly(let argument):
            "\(argument) is a 16-bit type, but this function reads FASTLOSS_ELEMENT_FLOAT32 alone"
        case .workers(let workers):
            "workers is \(workers), but it must be between 0 and \(Workspace.mostWorkers)"
        case .workspaceBusy:
            "another call is using the workspace; use one workspace per thread"
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
            case .invalidParameter, .invalidInput: FASTLOSS_ERROR_INVALID_PARAMETER
            case .emptySelection: FASTLOSS_ERROR_EMPTY_SELECTION
            case .labelOutOfRange, .indexOutOfRange: FASTLOSS_ERROR_LABEL_OUT_OF_RANGE
            case .probabilityOutOfRange: FASTLOSS_ERROR_PROBABILITY_OUT_OF_RANGE
            case .overlappingBuffers: FASTLOSS_ERROR_OVERLAPPING_BUFFERS
            case .missingInput: FASTLOSS_ERROR_MISSING_INPUT
            case .gradientWithoutInput: FASTLOSS_ERROR_GRADIENT_WITHOUT_INPUT
            case .notFinite: FASTLOSS_ERROR_NOT_FINITE
            case .factorizationFailed: FASTLOSS_ERROR_FACTORIZATION_FAILED
            case .outOfMemory: FASTLOSS_ERROR_OUT_OF_MEMORY
            case .ranksDisagree: FASTLOSS_ERROR_RANKS_DISAGREE
            case .rankFailed: FASTLOSS_ERROR_RANK_FAILED
            }
        return fastloss_status(status)
    }
}

/// Stores the error's message for `fastloss_last_error`, if memory is available, and returns its status.
func fail(_ error: CallError) -> fastloss_status {
    ThreadState.current?.keep(error.message)
    return error.status
}

/// The status of a call without a workspace.
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

/// A literal as a C string, which ends with 0 and lives as long as the library.
func staticText(_ text: StaticString) -> UnsafePointer<CChar> {
    UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}
