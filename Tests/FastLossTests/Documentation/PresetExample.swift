// The example of a preset that is changed, as the documentation quotes it.

import FastLoss

func integrationWithoutBatches() -> TotalObjective {
    // example:begin ChangedPreset
    var objective = TotalObjective.integration(elasticThreshold: 0.6)
    objective.weights.batch = nil
    objective.nonzeroForm = .logits
    // example:end
    return objective
}
