// The program's threads in place of the library's helpers, in the C interface.

import CFastLoss
import CFastLossThreads
import FastLoss

extension fastloss_thread_pool: SizedStruct {
    static var firstSize: Int { 32 }
    static var name: String { "fastloss_thread_pool" }
}

@c @implementation
public func fastloss_set_thread_pool(_ pool: UnsafePointer<fastloss_thread_pool>?) -> fastloss_status {
    status { () throws(CallError) in
        guard pool != nil else { return fastloss_use_pool(fastloss_pool()) }
        let functions = try fastloss_thread_pool.read(pool)
        fastloss_use_pool(
            fastloss_pool(
                context: functions.context, threads: try required(functions.threads, "pool.threads"),
                run: try required(functions.run, "pool.run")))
    }
}
