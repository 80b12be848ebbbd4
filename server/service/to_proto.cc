#include "server/service/to_proto.h"

namespace ounce::server {

v1::ModelState ToProto(ModelState state) {
  switch (state) {
    case ModelState::kLoading:
      return v1::MODEL_STATE_LOADING;
    case ModelState::kReady:
      return v1::MODEL_STATE_READY;
    case ModelState::kQuantizing:
      return v1::MODEL_STATE_QUANTIZING;
    case ModelState::kUnloading:
      return v1::MODEL_STATE_UNLOADING;
  }
  return v1::MODEL_STATE_UNSPECIFIED;
}

v1::Task ToProto(Task task) {
  switch (task) {
    case Task::kGenerate:
      return v1::TASK_GENERATE;
    case Task::kDetectObjects:
      return v1::TASK_DETECT_OBJECTS;
  }
  return v1::TASK_UNSPECIFIED;
}

}  // namespace ounce::server
