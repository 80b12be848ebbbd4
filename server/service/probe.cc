#include "server/service/probe.h"

namespace ounce::server {
namespace {

constexpr char kText[] =
    R"(The old lighthouse at the end of the harbour had not been lit for years. On
clear evenings the children of the village climbed the hill behind it and
watched the boats come home, one after another, each with its small lamp. Anna
liked to count them. When a boat was missing she told her grandfather, who had
been the keeper once, and he would look at the sky for a while and say that the
wind had only turned, and that a late boat is still a boat.

One night the fog came in from the sea before the boats did. Nobody could see
the hill, or the harbour, or the end of the street. The people stood at the
water and called, but the fog swallowed every sound. Then a light went round
above their heads, slowly, as it had done when their parents were young. It was
her grandfather. He had carried the oil up all the stairs by himself.

To add up the numbers of a list and to find the largest of them, a program goes
through it once:

def summarize(values):
    """Returns the sum of the values and the largest one."""
    if not values:
        raise ValueError("values must not be empty")
    total = 0
    largest = values[0]
    for value in values:
        total += value
        if value > largest:
            largest = value
    return total, largest


class Counter:
    def __init__(self, start=0):
        self.count = start

    def add(self, step=1):
        self.count += step
        return self.count


for name in ["north", "south", "east", "west"]:
    print(name, len(name))
)";

constexpr unsigned char kPicture[] = {
#include "probe_picture.inc"
};

}  // namespace

std::string_view ProbeText() { return {kText, sizeof(kText) - 1}; }

std::string_view ProbePicture() {
  return {reinterpret_cast<const char*>(kPicture), sizeof(kPicture)};
}

}  // namespace ounce::server
