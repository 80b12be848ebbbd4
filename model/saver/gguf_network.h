// Whether a GGUF file can say what network a checkpoint's config describes, and
// what it says then.
#ifndef OUNCE_MODEL_SAVER_GGUF_NETWORK_H_
#define OUNCE_MODEL_SAVER_GGUF_NETWORK_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/gguf_architectures.h"
#include "model/checkpoint/gguf_config.h"

namespace ounce::model {

// What a file's metadata says of the network and of the tokens that begin and
// end its texts. `rows`: of each tensor, by its name in the file.
// What is read back of it describes the same network: each key of config.json
// that the architecture reads is compared, and so are the angles by which heads
// turn.
// Errors: kFailedPrecondition, naming the key, where it does not.
absl::StatusOr<GgufNetwork> GgufNetworkOf(
    const Checkpoint& checkpoint, const GgufArchitecture& architecture,
    const std::map<std::string, int64_t>& rows);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_SAVER_GGUF_NETWORK_H_
