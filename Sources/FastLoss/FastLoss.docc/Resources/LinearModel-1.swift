import FastLoss

/// Cells as points in a small space, and a linear decoder from there to the genes.
struct LinearModel {
    let cells: Int
    let genes: Int
    let width: Int
    /// E: cells × width.
    var embedding: [Float]
    /// W: width × genes.
    var decoder: [Float]
}
