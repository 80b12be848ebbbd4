// Whether a folder holds a model, or only some files of one.
#ifndef OUNCE_HUB_WHOLE_MODEL_H_
#define OUNCE_HUB_WHOLE_MODEL_H_

#include <string>

namespace ounce::hub {

// Whether `folder` has a config.json and weights that are served with it, with
// every shard that their index names; or GGUF files alone. A link to a file
// that is gone counts as no file.
bool HoldsWholeModel(const std::string& folder);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_WHOLE_MODEL_H_
