// What the card of a saved model says of this very version: how good it is.
#ifndef OUNCE_SERVER_ENGINE_SAVE_CARD_H_
#define OUNCE_SERVER_ENGINE_SAVE_CARD_H_

#include <string>
#include <vector>

#include "model/saver/saver.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

// What to call it: the name of its file or folder, or of its repository; where
// that is none, the name that it is served under.
std::string CardName(const ModelInfo& info);

// Tables of the qualities that were measured of the version that `info` is of,
// with how, and the commands that measure it again. Empty: none was measured.
std::vector<model::CardSection> QualitySections(const ModelInfo& info);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_SAVE_CARD_H_
