// A partition as its parent manages it: identity, life cycle, memory, ports. Rows K-120..K-133, K-270.
#pragma once

#include <map>
#include <memory>

#include "hv/memory_pool.h"
#include "hv/partition.h"
#include "hv/spec/partition.h"
#include "hv/spec/port.h"

namespace vg::hv {

/// Early properties are settable in Created, everything else works in Initialized (K-270).
enum class PartitionState : u8 { Created, Initialized, Finalized };

/// A port that a guest partition owns. Who connects to it names it by id.
struct OwnedPort {
    PortType type = PortType::Message;
    u64 connection_partition = 0;  ///< the only partition that may connect
    PortTarget target{};
};

/// One place in the tree of partitions. What runs is `partition`: it is there from Initialize to Finalize.
class PartitionNode {
  public:
    PartitionNode(Hypervisor& hypervisor, u64 own_id, PartitionNode* its_parent, MemoryPool::Source source)
        : id(own_id), parent(its_parent), pool(hypervisor, source) {}
    PartitionNode(const PartitionNode&) = delete;
    PartitionNode& operator=(const PartitionNode&) = delete;

    const u64 id;
    PartitionNode* const parent;  ///< null: the root, and children of the built-in parent
    PartitionState state = PartitionState::Initialized;
    PartitionConfig config;       ///< what `partition` is made from
    u64 creation_flags = 0;
    MemoryPool pool;
    std::unique_ptr<InterceptSink> sink;  ///< of a guest's child: turns what has no message of its own into one
    std::unique_ptr<Partition> partition;
    std::map<PartitionProperty, u64> properties;  ///< those that are only kept
    std::map<u32, OwnedPort> ports;               ///< by id
    u64 root_signals = 0;                         ///< scheduler messages sent about its VPs (R-64)

    void fields(StateVisitor& v);
};

}  // namespace vg::hv
