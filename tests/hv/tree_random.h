// Random parents: partitions made, memory deposited, mapped, withdrawn and deleted in any order, against a model that
// knows nothing of tables. Shared by a short test and the fuzz target.
#pragma once

#include <map>
#include <set>
#include <stdexcept>

#include "tests/fuzz/input_bytes.h"
#include "tests/hv/root_fixture.h"

namespace vg::hv::test {

/// Devices of the root, where a test has some: the third way to memory beside processors and hypercalls.
class TreeDevices {
  public:
    virtual ~TreeDevices() = default;
    /// Puts them under the hypervisor's rule.
    virtual void start(RootFixture& f) = 0;
    /// They know nothing of the hypervisor any more.
    virtual void stop(RootFixture& f) = 0;
    /// One device's access of `size` bytes at an address of the root. False: refused.
    virtual bool access(unsigned device, u64 address, void* data, u64 size, bool write) = 0;
};

/// What every page may be touched by, kept by page numbers alone.
class TreeModel {
  public:
    struct Child {
        std::map<u64, std::pair<u64, u32>> pages;  ///< GPA page: root page, map flags
        std::set<u64> deposits;                    ///< pages that were given for it
    };
    std::map<u64, Child> children;
    std::set<u64> gone;  ///< pages that the root deposited with anybody

    [[nodiscard]] bool lent(u64 page) const {
        for (const auto& [id, child] : children)
            for (const auto& [gpa, what] : child.pages)
                if (what.first == page) return true;
        return false;
    }
};

/// Compares every page in `pages` and the first pages of each child with the model, by the processor's path (the
/// second-level table) and by the hypervisor's own (hypercall parameters, messages).
inline void check_tree(RootFixture& f, const TreeModel& model, u64 first_page, u64 page_count, u64 gpa_pages) {
    const auto require = [](bool ok, const char* what) {
        if (!ok) throw std::runtime_error(what);
    };
    for (u64 page = first_page; page < first_page + page_count; ++page) {
        const bool visible = !model.gone.contains(page);
        const auto spa = f.root_address(page << 12, mmu::Access::Write);
        require(spa.has_value() == visible, "the root's table and the model differ");
        if (spa) require(spa->value == page << 12, "the root's memory is not at its own address");
        require(f.root->readable(Gpa(page << 12)) == visible, "the root's hypercalls reach a page it gave away");
        require(f.root->writable(Gpa(page << 12)) == visible, "the root's hypercalls reach a page it gave away");
    }
    for (const auto& [id, child] : model.children) {
        Partition* partition = f.hypervisor->find(id);
        if (partition == nullptr) continue;
        for (u64 gpa = 0; gpa < gpa_pages; ++gpa) {
            const auto it = child.pages.find(gpa);
            const u32 flags = it == child.pages.end() ? 0 : it->second.second;
            const bool read = (flags & map_flag::kRead) != 0, write = (flags & map_flag::kWrite) != 0;
            const auto by_read = f.address(*partition, gpa << 12, mmu::Access::Read);
            require(by_read.has_value() == read, "a child reads what it was not given");
            require(f.address(*partition, gpa << 12, mmu::Access::Write).has_value() == write,
                    "a child writes what it was not given");
            if (by_read) require(by_read->page() == it->second.first, "a child's page is another one");
            require(partition->readable(Gpa(gpa << 12)) == read, "hypercalls of a child reach another page");
            require(partition->writable(Gpa(gpa << 12)) == write, "hypercalls of a child reach another page");
        }
    }
}

/// A device touches some page of those in question, one of the hypervisor's own, or the border of two. What it reaches
/// is decided by page numbers: it is its partition's until the partition gave it away.
inline void touch(RootFixture& f, TreeDevices& devices, const TreeModel& model, u64 first_page, u64 page_count,
                  u64 choice) {
    const auto require = [](bool ok, const char* what) {
        if (!ok) throw std::runtime_error(what);
    };
    const unsigned device = choice & 3;
    const bool write = (choice & 4) != 0;
    const u64 page = first_page + (choice >> 8) % page_count;
    u64 mark = choice * 0x9e3779b97f4a7c15, data = mark;
    if ((choice & 0xf0) == 0) {
        const u64 own = RootFixture::kPrivateSpa + ((choice >> 8) % 64 + 512) * kPageSize;  // never shown
        require(!devices.access(device, own, &data, sizeof data, write), "a device reaches the hypervisor's memory");
        return;
    }
    const bool across = (choice & 0xf0) == 0x10 && page + 1 < first_page + page_count;
    const u64 address = (page << 12) + (across ? kPageSize - 4 : 8 * (choice >> 4 & 0x1f));
    const bool allowed = !model.gone.contains(page) && !(across && model.gone.contains(page + 1));
    u64 before = 0;
    f.memory.read(Spa(address), &before, sizeof before);
    require(devices.access(device, address, &data, sizeof data, write) == allowed,
            allowed ? "a device does not reach its partition's memory" : "a device reaches a page that was given away");
    u64 after = 0;
    f.memory.read(Spa(address), &after, sizeof after);
    if (allowed && write) require(after == mark, "a device's write went elsewhere");
    if (allowed && !write) require(data == before, "a device read elsewhere");
    // Of a transfer across two pages the first may be done; what was given away is as it was.
    if (!allowed && !across) require(after == before, "a refused write changed memory");
    if (!allowed && across && model.gone.contains(page + 1))
        require(after >> 32 == before >> 32, "a refused write changed memory");
}

/// Throws where model and hypervisor differ.
inline void random_tree(std::span<const u8> input, TreeDevices* devices = nullptr) {
    constexpr u64 kFirst = 0x800, kCount = 96, kGpaPages = 48;
    vg::test::InputBytes bytes(input);
    static RootFixture::Parts parts;
    RootFixture f(parts, false, 1);
    struct Connected {
        Connected(TreeDevices* which, RootFixture& root) : devices(which), f(root) {
            if (devices != nullptr) devices->start(f);
        }
        ~Connected() {
            if (devices != nullptr) devices->stop(f);
        }
        TreeDevices* devices;
        RootFixture& f;
    } connected(devices, f);
    u64 choice = 0;
    const auto touch_some = [&](const TreeModel& model, unsigned count) {
        for (; devices != nullptr && count > 0; --count) {
            choice = choice * 0xd1342543de82ef95 + 1;
            touch(f, *devices, model, kFirst, kCount, choice >> 16);
        }
    };
    TreeModel model;
    const auto pick = [&]() -> u64 {
        if (model.children.empty()) return 0;
        auto it = model.children.begin();
        std::advance(it, bytes.take<u8>() % model.children.size());
        return it->first;
    };
    const auto page = [&] { return kFirst + bytes.take<u8>() % kCount; };
    unsigned step = 0;
    while (!bytes.empty()) {
        touch_some(model, 8);
        const u8 action = bytes.take<u8>() % 9;
        const u64 id = pick();
        if (action == 0 && model.children.size() < 5) {
            if (const u64 made = f.create(); made != 0) model.children[made];
        } else if (id == 0) {
            continue;
        } else if (action == 1 || action == 2) {
            const u64 first = page();
            const u32 count = 1 + bytes.take<u8>() % 12;
            (void)f.deposit(id, first, count);
            for (u32 i = 0; i < f.completed; ++i) {
                if (model.gone.contains(first + i) || model.lent(first + i))
                    throw std::runtime_error("a page in use was taken");
                model.gone.insert(first + i);
                model.children[id].deposits.insert(first + i);
            }
        } else if (action == 3) {
            (void)f.initialize(id);
        } else if (action == 4 || action == 5) {
            const u64 first = page(), gpa = bytes.take<u8>() % kGpaPages;
            const u32 count = 1 + bytes.take<u8>() % 8;
            const u32 flags = (bytes.take<u8>() % 2 != 0 ? map_flag::kRead : 0) |
                              (bytes.take<u8>() % 2 != 0 ? map_flag::kRead | map_flag::kWrite : 0) |
                              (bytes.take<u8>() % 8 == 0 ? map_flag::kNoAccess : 0);
            std::vector<u64> list;
            for (u32 i = 0; i < count; ++i) list.push_back(first + i);
            (void)f.map(id, gpa, flags, list);
            for (u32 i = 0; i < f.completed; ++i) {
                model.children[id].pages.erase(gpa + i);
                if ((flags & map_flag::kNoAccess) != 0 || flags == 0) continue;
                if (model.gone.contains(first + i)) throw std::runtime_error("a deposited page was mapped");
                model.children[id].pages[gpa + i] = {first + i, flags};
            }
        } else if (action == 6) {
            const u64 gpa = bytes.take<u8>() % kGpaPages;
            (void)f.unmap(id, gpa, 1 + bytes.take<u8>() % 8);
            if (f.hypervisor->find(id) != nullptr)
                for (u32 i = 0; i < f.completed; ++i) model.children[id].pages.erase(gpa + i);
        } else if (action == 7) {
            for (const u64 back : f.withdraw_all(id)) {
                if (model.children[id].deposits.erase(back) == 0) throw std::runtime_error("a page came back twice");
                model.gone.erase(back);
            }
        } else if (action == 8) {
            const u8 what = bytes.take<u8>() % 4;
            if (what == 0 && f.finalize(id) == HvStatus::Success) model.children[id].pages.clear();
            if (what == 1) (void)f.create_vp(id, bytes.take<u8>() % 2);
            if (what == 2 && f.hypervisor->find_node(id)->partition != nullptr &&
                !f.child(id).vps().empty()) {
                const u64 shown = f.map_state_page(id, f.child(id).vps().front()->index(),
                                                   static_cast<StatePage>(bytes.take<u8>() % 2));
                // a page that shows the VP is the root's to see while it is mapped, by every way
                u64 data = 0;
                if (shown != 0 && devices != nullptr && !devices->access(0, shown << 12, &data, sizeof data, false))
                    throw std::runtime_error("a device does not reach a page that is shown");
                if (shown != 0) f.child(id).release_shown_pages();
                if (shown != 0 && devices != nullptr && devices->access(0, shown << 12, &data, sizeof data, false))
                    throw std::runtime_error("a device reaches a page that is not shown any more");
            }
            if (what == 3 && f.remove(id) == HvStatus::Success) {
                if (!model.children[id].deposits.empty()) throw std::runtime_error("a partition went with pages");
                model.children.erase(id);
            }
        }
        if (++step % 8 == 0) check_tree(f, model, kFirst, kCount, kGpaPages);
    }
    // Everything comes back.
    while (!model.children.empty()) {
        const u64 id = model.children.begin()->first;
        (void)f.finalize(id);
        std::set<u64>& deposits = model.children[id].deposits;
        for (const u64 back : f.withdraw_all(id)) {
            if (deposits.erase(back) == 0) throw std::runtime_error("a page came back that was not given");
            model.gone.erase(back);
        }
        if (!deposits.empty()) throw std::runtime_error("a deposited page was lost");
        if (f.remove(id) != HvStatus::Success) throw std::runtime_error("a partition cannot be deleted");
        model.children.erase(id);
    }
    check_tree(f, model, kFirst, kCount, kGpaPages);
}

}  // namespace vg::hv::test
