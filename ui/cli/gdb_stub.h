// A GDB stub on the control protocol: what gdb asks for becomes requests of a ControlLink, so that it serves a live machine and
// a replay alike. GDB manual, "Remote Serial Protocol".
//
// A partition is an inferior (its process id is the partition's, 1 for the bare PC), a VP a thread (its index plus 1).
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "ui/cli/gdb_packets.h"
#include "ui/model/control_link.h"
#include "ui/model/symbol_source.h"

namespace vg::cli {

/// One conversation with gdb, without its transport. All-stop: the whole machine goes on or stands.
class GdbStub {
  public:
    /// Stops the machine if it runs. @param link  outlives this
    explicit GdbStub(model::ControlLink& link);
    /// Its rules go with it.
    ~GdbStub();
    GdbStub(const GdbStub&) = delete;
    GdbStub& operator=(const GdbStub&) = delete;

    /// What gdb sent.
    void feed(std::string_view bytes);
    /// Looks for notices of the link. @param wait_ms  how long one may take
    void poll(int wait_ms);
    /// What gdb is to be sent, since the last call.
    [[nodiscard]] std::string take_output();

    /// gdb has left: the connection ends once everything is sent.
    [[nodiscard]] bool closing() const { return closing_; }
    /// gdb asked to end the machine.
    [[nodiscard]] bool killed() const { return killed_; }
    /// gdb waits for the machine to stop.
    [[nodiscard]] bool waiting() const { return waiting_; }
    /// Takes back the rules; lets the machine go on if it stands. What detaching does, and a connection that is lost.
    void leave();

  private:
    using Json = model::Json;
    using Place = model::SymbolPlace;

    // gdb_stub.cpp: packets and queries
    void begin();
    void let_go();
    void guarded(const std::function<void()>& action);
    void handle(const std::string& packet);
    std::string answer(const std::string& packet);
    std::string query(const std::string& packet);
    std::string supported(std::string_view offered);
    std::string transfer(std::string_view rest);
    std::string threads_xml();
    std::string list_threads();
    std::string select_thread(std::string_view rest);
    std::string monitor(std::string_view hex);
    std::string detach(std::string_view rest);

    // gdb_target.cpp: registers, memory, rules, running
    std::string read_registers();
    std::string write_registers(std::string_view hex);
    std::string read_register(std::string_view rest);
    std::string write_register(std::string_view rest);
    std::string read_memory(std::string_view rest, bool binary);
    std::string write_memory(std::string_view rest, bool binary);
    std::string change_rule(std::string_view packet);
    std::string resume(std::string_view actions);
    std::string go(std::string_view op, Json request);
    std::string stop_reply();
    std::string stop_signal_and_reason(const Json& stop);
    std::string end_reply(const Json& status);

    [[nodiscard]] Result<Json> ask(Json request) { return link_.call(request); }
    [[nodiscard]] Json at_place(Json request, const std::optional<Place>& place) const;
    [[nodiscard]] u64 process_of(u64 partition) const { return partition == 0 ? 1 : partition; }
    [[nodiscard]] std::string thread_text(const Place& place) const;
    /// Nothing: any, or all. False: no such thread can be.
    bool parse_thread(std::string_view text, std::optional<Place>& place);
    [[nodiscard]] Json partitions();

    model::ControlLink& link_;
    GdbPackets packets_;
    std::string out_, last_packet_;
    bool no_ack_ = false, multiprocess_ = false, software_reason_ = false, hardware_reason_ = false;
    bool reverse_ = false, bare_ = false;
    bool closing_ = false, killed_ = false, waiting_ = false, left_ = false;
    std::optional<Place> general_;  ///< whose registers and memory are meant; nothing: where the machine stopped
    std::map<std::string, u32> rules_;  ///< by what gdb calls them: "0,ffffffff81000000,1 of 2"
    std::map<u32, char> rule_types_;    ///< gdb's type by number
    std::set<u64> detached_;            ///< partitions
    std::string thread_list_;           ///< what qsThreadInfo has still to say
    Json last_stop_, last_status_;
};

}  // namespace vg::cli
