// The losses of a batch that is spread over ranks, in the C interface: communicators made of callbacks.

import CFastLoss
import FastLoss

extension fastloss_communicator: SizedStruct {
    static var firstSize: Int { 48 }
    static var name: String { "fastloss_communicator" }
}

/// The caller's functions as a communicator.
final class CallbackCommunicator: Communicator {
    let rank: Int
    let size: Int
    private let context: UnsafeMutableRawPointer?
    private let start: fastloss_start_exchange
    private let finish: fastloss_finish_exchange
    private let collect: fastloss_gather
    /// Whether the other ranks know how this one's arguments are.
    private(set) var hasGathered = false

    init(_ pointer: UnsafePointer<fastloss_communicator>?) throws(CallError) {
        let functions = try fastloss_communicator.read(required(pointer, "communicator"))
        context = functions.context
        start = try required(functions.start_exchange, "communicator.start_exchange")
        finish = try required(functions.finish_exchange, "communicator.finish_exchange")
        collect = try required(functions.gather, "communicator.gather")
        (rank, size) = (Int(functions.rank), Int(functions.ranks))
        guard size >= 1 else {
            throw .loss(
                .invalidParameter(name: "communicator.ranks", value: Double(size), requirement: "at least 1"))
        }
        guard (0..<size).contains(rank) else {
            throw .loss(
                .invalidParameter(
                    name: "communicator.rank", value: Double(rank), requirement: "below communicator.ranks"))
        }
    }

    private func check(_ result: Int32) throws(CommunicationError) {
        guard result != 0 else { return }
        throw CommunicationError(rank: min(max(0, Int(result) - 1), size - 1))
    }

    func startExchange(
        sending bytes: UnsafeRawBufferPointer, to receiver: Int,
        receiving buffer: UnsafeMutableRawBufferPointer, from sender: Int
    ) throws(CommunicationError) {
        try check(
            start(
                context, bytes.baseAddress, bytes.count, Int32(receiver), buffer.baseAddress, buffer.count,
                Int32(sender)))
    }

    func finishExchange() throws(CommunicationError) {
        try check(finish(context))
    }

    func gather(
        _ bytes: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer
    ) throws(CommunicationError) {
        hasGathered = true
        try check(collect(context, bytes.baseAddress, bytes.count, all.baseAddress))
    }
}

/// Runs one call of the C interface across ranks. If it fails before the ranks have compared their arguments,
/// the others are told.
func callAcrossRanks(
    _ workspace: OpaquePointer?, _ pointer: UnsafePointer<fastloss_communicator>?,
    _ body: (borrowing Call, CallbackCommunicator) throws(CallError) -> Void
) -> fastloss_status {
    status { () throws(CallError) in
        let communicator = try CallbackCommunicator(pointer)
        do throws(CallError) {
            let handle = try WorkspaceHandle(given: workspace)
            guard handle.acquire() else { throw .workspaceBusy }
            defer { handle.release() }
            try body(Call(handle), communicator)
        } catch {
            if !communicator.hasGathered { RankGroup(communicator).announceFailure() }
            throw error
        }
    }
}

@c @implementation
public func fastloss_ranks_elastic_cell_similarity(
    _ rows: Int64, _ columns: Int64, _ embeddings: UnsafePointer<Float>?, _ embeddingsStride: Int64,
    _ options: UnsafePointer<fastloss_elastic_options>?, _ gradient: UnsafePointer<fastloss_gradient>?,
    _ communicator: UnsafePointer<fastloss_communicator>?, _ workspace: OpaquePointer?,
    _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    callAcrossRanks(workspace, communicator) { (call, ranks) throws(CallError) in
        let loss = try place(loss, "loss")
        let options = try ElasticOptions(options)
        let embeddings = try call.input(
            embeddings, Strides(rows: rows, columns: columns, stride: embeddingsStride, of: "embeddings"),
            options.embeddings)
        let gradient = try call.gradient(gradient, rows: rows, columns: columns, type: options.embeddings)
        let shape = MatrixShape(rows: Int(rows), columns: Int(columns))
        do throws(LossError) {
            options.write(
                try call.runAcrossRanks { (workspace) throws(LossError) in
                    try RankedElastic(
                        options.loss, embeddings: call.elements(embeddings), shape: shape,
                        into: call.output(gradient), communicator: ranks
                    ).run(workspace)
                }, to: loss)
        } catch {
            throw .loss(error)
        }
    }
}

@c @implementation
public func fastloss_ranks_contrastive_cell_embedding(
    _ rows: Int64, _ columns: Int64, _ first: UnsafePointer<Float>?, _ firstStride: Int64,
    _ second: UnsafePointer<Float>?, _ secondStride: Int64,
    _ options: UnsafePointer<fastloss_contrastive_options>?,
    _ firstGradient: UnsafePointer<fastloss_gradient>?, _ secondGradient: UnsafePointer<fastloss_gradient>?,
    _ communicator: UnsafePointer<fastloss_communicator>?, _ workspace: OpaquePointer?,
    _ loss: UnsafeMutablePointer<fastloss_loss_value>?
) -> fastloss_status {
    callAcrossRanks(workspace, communicator) { (call, ranks) throws(CallError) in
        let loss = try place(loss, "loss")
        let options = try ContrastiveOptions(options)
        let type = options.embeddings
        let first = try call.input(
            first, Strides(rows: rows, columns: columns, stride: firstStride, of: "first"), type)
        let second = try call.input(
            second, Strides(rows: rows, columns: columns, stride: secondStride, of: "second"), type)
        let firstGradient = try call.gradient(
            firstGradient, rows: rows, columns: columns, named: "first_gradient", type: type)
        let secondGradient = try call.gradient(
            secondGradient, rows: rows, columns: columns, named: "second_gradient", type: type)
        let shape = MatrixShape(rows: Int(rows), columns: Int(columns))
        do throws(LossError) {
            loss.pointee = fastloss_loss_value(
                try call.runAcrossRanks { (workspace) throws(LossError) in
                    try RankedContrastive(
                        options.loss, first: call.elements(first), second: call.elements(second),
                        shape: shape,
                        into: call.output(firstGradient), call.output(secondGradient), communicator: ranks
                    ).run(workspace)
                })
        } catch {
            throw .loss(error)
        }
    }
}
