// The functions of the C interface, by their names without the prefix `fastloss_`.
//
// Written by scripts/generate/interface from the headers in Sources/CFastLoss/include. Do not edit.

// clang-format off
#define FASTLOSS_FUNCTIONS(USE) \
    USE(abi_version) \
    USE(version) \
    USE(describe) \
    USE(status_name) \
    USE(last_error) \
    USE(workspace_create) \
    USE(workspace_destroy) \
    USE(workspace_byte_count) \
    USE(workspace_workers) \
    USE(set_thread_pool) \
    USE(masked_mse) \
    USE(masked_mse_per_cell) \
    USE(bernoulli_nll) \
    USE(bernoulli_nll_per_cell) \
    USE(bernoulli_nll_logits) \
    USE(bernoulli_nll_logits_per_cell) \
    USE(masked_relative_error) \
    USE(masked_relative_error_per_cell) \
    USE(cross_entropy) \
    USE(gradient_reversal) \
    USE(domain_adversarial) \
    USE(elastic_cell_similarity) \
    USE(contrastive_cell_embedding) \
    USE(cosine_similarity) \
    USE(masked_reductions) \
    USE(masked_reductions_gradient) \
    USE(token_pooling) \
    USE(token_pooling_gradient) \
    USE(weighted_token_pooling) \
    USE(weighted_token_pooling_states_gradient) \
    USE(weighted_token_pooling_weights_gradient) \
    USE(normalized_weighted_token_pooling) \
    USE(normalized_weighted_token_pooling_states_gradient) \
    USE(normalized_weighted_token_pooling_weights_gradient) \
    USE(term_name) \
    USE(objective_enable) \
    USE(objective_disable) \
    USE(objective_integration) \
    USE(objective_annotation) \
    USE(objective_perturbation) \
    USE(objective_multi_omics) \
    USE(objective_generative_pretraining) \
    USE(objective_masked_pretraining) \
    USE(objective_scformer) \
    USE(total_objective) \
    USE(expression_decoder_predict) \
    USE(expression_decoder_gradient) \
    USE(expression_decoder_loss) \
    USE(masked_value_decoder_predict) \
    USE(masked_value_decoder_gradient) \
    USE(masked_value_decoder_loss) \
    USE(cell_type_decoder_predict) \
    USE(cell_type_decoder_gradient) \
    USE(cell_type_decoder_loss) \
    USE(adversarial_discriminator_predict) \
    USE(adversarial_discriminator_gradient) \
    USE(adversarial_discriminator_loss) \
    USE(batch_label_encoder_embed) \
    USE(batch_label_encoder_gradient) \
    USE(ranks_elastic_cell_similarity) \
    USE(ranks_contrastive_cell_embedding) \
    USE(ranks_total_objective)
