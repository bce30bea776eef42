package health

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// defaultFor is how long a changed level lasts: a service that was left at
	// DEBUG is found by the bill for its logs.
	defaultFor = 15 * time.Minute
	longestFor = 24 * time.Hour
)

// LogLevel is from which level on a service logs. It can be changed while the
// service runs, for a while: then it goes back by itself to the configured one.
// It is a slog.Leveler, and safe for simultaneous use.
type LogLevel struct {
	now        slog.LevelVar
	configured slog.Level

	mu    sync.Mutex
	back  *time.Timer // nil: the configured level holds
	until time.Time
	turn  int // of changes, so that a timer that was too late to stop does nothing
}

// NewLogLevel begins at the configured level.
func NewLogLevel(configured slog.Level) *LogLevel {
	l := &LogLevel{configured: configured}
	l.now.Set(configured)
	return l
}

// Level is that of now.
func (l *LogLevel) Level() slog.Level { return l.now.Level() }

// LevelState is what a LogLevel is at, in the words of GATEWAY_LOG_LEVEL.
type LevelState struct {
	Level      string `json:"level"`
	Configured string `json:"configured"`
	// Until is when Configured holds again; absent: it holds now.
	Until *time.Time `json:"until,omitempty"`
}

// State is what holds now.
func (l *LogLevel) State() LevelState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state()
}

func (l *LogLevel) state() LevelState {
	s := LevelState{Level: levelName(l.now.Level()), Configured: levelName(l.configured)}
	if l.back != nil {
		until := l.until.UTC().Round(time.Second)
		s.Until = &until
	}
	return s
}

// Set changes the level for a while. Both changes are logged, whatever the level.
func (l *LogLevel) Set(to slog.Level, lasts time.Duration, log *slog.Logger) LevelState {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.back != nil {
		l.back.Stop()
		l.back = nil
	}
	l.turn++
	turn := l.turn
	if to != l.configured {
		l.until = time.Now().Add(lasts)
		l.back = time.AfterFunc(lasts, func() { l.restore(turn, log) })
	}
	was := l.now.Level()
	// Told at whichever of the two levels hears more.
	l.now.Set(min(was, slog.LevelInfo))
	state := l.state()
	state.Level = levelName(to)
	log.Info("log level changed", "from", levelName(was), "to", state.Level, "until", state.Until)
	l.now.Set(to)
	return state
}

func (l *LogLevel) restore(turn int, log *slog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if turn != l.turn {
		return
	}
	l.back = nil
	was := l.now.Level()
	l.now.Set(min(was, slog.LevelInfo))
	log.Info("log level is the configured one again", "from", levelName(was), "to", levelName(l.configured))
	l.now.Set(l.configured)
}

// levels are those of GATEWAY_LOG_LEVEL.
func levels() []struct {
	name  string
	level slog.Level
} {
	return []struct {
		name  string
		level slog.Level
	}{
		{"DEBUG", slog.LevelDebug}, {"INFO", slog.LevelInfo}, {"WARNING", slog.LevelWarn},
		{"ERROR", slog.LevelError}, {"CRITICAL", slog.LevelError + 4},
	}
}

func levelName(level slog.Level) string {
	for _, l := range levels() {
		if l.level == level {
			return l.name
		}
	}
	return level.String()
}

func parseLevel(text string) (slog.Level, error) {
	for _, l := range levels() {
		if strings.EqualFold(text, l.name) {
			return l.level, nil
		}
	}
	return 0, fmt.Errorf("level %q: want DEBUG, INFO, WARNING, ERROR or CRITICAL", text)
}

// parseFor reads how long; empty: the default.
func parseFor(text string) (time.Duration, error) {
	if text == "" {
		return defaultFor, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > longestFor {
		return 0, fmt.Errorf("for %q: want a duration from 1s to %s, such as 10m", text, "24h")
	}
	return d, nil
}
