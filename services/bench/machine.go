package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of CPU times in /proc: USER_HZ, which is 100 on every Linux that Go runs on.
const tick = time.Second / 100

// machine describes where the numbers were measured, without naming the host.
func machine() string {
	var info syscall.Utsname
	kernel := "unknown kernel"
	if err := syscall.Uname(&info); err == nil {
		kernel = "Linux " + charsToString(info.Release[:])
	}
	model := procField("/proc/cpuinfo", "model name")
	memory, _ := strconv.Atoi(strings.TrimSuffix(procField("/proc/meminfo", "MemTotal"), " kB"))
	return fmt.Sprintf("%d cores (%s), %.1f GB memory, %s, %s", runtime.NumCPU(), model, float64(memory)/1e6, kernel, runtime.Version())
}

func charsToString(chars []int8) string {
	var b strings.Builder
	for _, c := range chars {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}

// procField returns the value behind the first "name:" of a file of /proc.
func procField(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		key, value, found := strings.Cut(line, ":")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func loadAverage() float64 {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(data), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// stat returns the parent of a process, its CPU time and that of its children which have ended.
func stat(pid int) (parent int, cpu, ended time.Duration, err error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, 0, err
	}
	// The command in parentheses may hold spaces; what follows the last one is state, parent, …
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 15 {
		return 0, 0, 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	parent, _ = strconv.Atoi(fields[1])
	var times [4]time.Duration // user, system, and both of ended children
	for i := range times {
		n, _ := strconv.Atoi(fields[11+i])
		times[i] = time.Duration(n) * tick
	}
	return parent, times[0] + times[1], times[2] + times[3], nil
}

func cpuTime(pid int) time.Duration {
	_, cpu, _, err := stat(pid)
	if err != nil {
		return 0
	}
	return cpu
}

// tree returns pid and its living descendants.
func tree(pid int) []int {
	parents := map[int]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		child, _ := strconv.Atoi(filepath.Base(dir))
		if parent, _, _, err := stat(child); err == nil {
			parents[child] = parent
		}
	}
	found := []int{pid}
	for child := range parents {
		for up := parents[child]; up > 1; up = parents[up] {
			if up == pid {
				found = append(found, child)
				break
			}
		}
	}
	return found
}

// pss returns the memory of a process and its descendants in MB; pages that several share are counted once.
func pss(pid int) (total float64, byName map[string]float64) {
	byName = map[string]float64{}
	for _, p := range tree(pid) {
		kb, _ := strconv.Atoi(strings.TrimSuffix(procField(fmt.Sprintf("/proc/%d/smaps_rollup", p), "Pss"), " kB"))
		mb := float64(kb) * 1024 / 1e6
		total += mb
		byName[role(p)] += mb
	}
	return total, byName
}

// role says which part of the system a process is.
func role(pid int) string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if strings.HasPrefix(string(name), "postgres") {
		return "postgres"
	}
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if bytes.Contains(line, []byte("engine-clickhouse")) {
		return "clickhouse"
	}
	return "mekong"
}

// busy returns how much CPU time the whole machine has spent working.
func busy() time.Duration {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	var sum time.Duration
	for i, field := range strings.Fields(line) {
		// cpu user nice system idle iowait irq softirq steal: idle and iowait are not work.
		if i == 0 || i == 4 || i == 5 || i > 8 {
			continue
		}
		n, _ := strconv.Atoi(field)
		sum += time.Duration(n) * tick
	}
	return sum
}

// noise measures what other programs do meanwhile.
type noise struct {
	at         time.Time
	busy, ours time.Duration
}

func ourCPU() time.Duration {
	var sum time.Duration
	for _, pid := range tree(os.Getpid()) {
		if _, cpu, ended, err := stat(pid); err == nil {
			sum += cpu + ended
		}
	}
	return sum
}

func listen() noise { return noise{time.Now(), busy(), ourCPU()} }

// share returns the part of the machine that others took since listen: 0 is silence, 1 is all of it.
func (n noise) share() float64 {
	others := (busy() - n.busy) - (ourCPU() - n.ours)
	return max(0, others.Seconds()/time.Since(n.at).Seconds()/float64(runtime.NumCPU()))
}
