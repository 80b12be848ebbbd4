// GGUF's blocks of codes and fields: the inverse of what gguf_blocks.cc
// unpacks. Of the types that methods make.
//
// Source: ggml-org/ggml, src/ggml-common.h.
#ifndef OUNCE_MODEL_CHECKPOINT_GGUF_PACKING_H_
#define OUNCE_MODEL_CHECKPOINT_GGUF_PACKING_H_

#include <cstdint>

#include "model/checkpoint/gguf_blocks.h"

namespace ounce::model {

void PackQ40(const GgufParts& from, uint8_t* block);  // and IQ4_NL
void PackQ41(const GgufParts& from, uint8_t* block);
void PackQ50(const GgufParts& from, uint8_t* block);
void PackQ51(const GgufParts& from, uint8_t* block);
void PackQ80(const GgufParts& from, uint8_t* block);
void PackQ2K(const GgufParts& from, uint8_t* block);
void PackQ3K(const GgufParts& from, uint8_t* block);
void PackQ4K(const GgufParts& from, uint8_t* block);
void PackQ5K(const GgufParts& from, uint8_t* block);
void PackQ6K(const GgufParts& from, uint8_t* block);
void PackIq4Xs(const GgufParts& from, uint8_t* block);
void PackTq20(const GgufParts& from, uint8_t* block);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_GGUF_PACKING_H_
