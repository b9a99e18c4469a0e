package VidgenBench;

# What is measured: one nginx worker, a PostgreSQL that really commits and a
# provider that takes no time; the load, and the processor time that it cost.

use strict;
use warnings;

use File::Temp ();
use FindBin;
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use Time::HiRes qw(time);

use VidgenTest::Certificate;
use VidgenTest::Http qw(get);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Util qw(slurp spew wait_for);

my $users = 1000;
my $credits = 1_000_000;            # of each, at first
my $connections = 64;               # of wrk
my $secret = 'bench-webhook-secret';
my $hung = 8;                       # providers whose probes hang
my $ticks = POSIX::sysconf(POSIX::_SC_CLK_TCK());

# The nginx that may run, one at a time.  "patient" never takes a provider for
# down in one measurement; in "hung" probes are always under way and nobody
# answers them.
my %monitor = (
    plain   => 'vidgen_monitor off;',
    patient => 'vidgen_monitor interval=1h fails=1000;',
    hung    => 'vidgen_monitor interval=1s timeout=5s;',
);


sub new {
    my ($class) = @_;

    my $self = bless {
        dir       => File::Temp->newdir('vidgen-bench-XXXXXXXX', TMPDIR => 1),
        # fresh: its files share no blocks with a template, which cost time
        # when they are written for the first time
        pg        => VidgenTest::Postgres->new(fsync => 1, fresh => 1),
        tls       => VidgenTest::Certificate->new,
        jobs      => 0,             # prepared so far
        sent      => 0,             # events
        generated => 0,             # through nginx
        moved     => 0,             # of these, to the next provider
    }, $class;

    $self->{provider} = VidgenTest::Nginx->new(module => 0, log => 'warn',
        config => slurp("$FindBin::Bin/provider.conf"))->start;
    $self->{hole} = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        Listen => 4096, Blocking => 0) or die "bench: $@";

    $self->{pg}->psql_file("$FindBin::Bin/prepare.sql",
        variables => { users => $users, credits => $credits });
    return $self;
}


sub users  { $users }
sub secret { $secret }

# One line about where this runs.
sub machine {
    my ($self) = @_;
    my $processors = processors();
    my ($model) = slurp('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)$/m;
    return "$processors processors" . ($model ? " ($model)" : '')
        . ', PostgreSQL ' . $self->{pg}->value('SHOW server_version')
        . " with fsync on,\none nginx worker, wrk with $connections"
        . " connections, all on this machine\n\n";
}

sub processors {
    my $n = () = slurp('/proc/cpuinfo') =~ /^processor/mg;
    return $n;
}


# ---- what runs -------------------------------------------------------------

# The nginx of that name runs, and no other.  again => 1: with an empty zone.
sub run {
    my ($self, $name, %opt) = @_;

    return if ($self->{running} // '') eq $name && !$opt{again};

    $self->{nginx}->stop if $self->{nginx};
    $self->{nginx} = $self->{all}{$name} //= $self->nginx($name);
    # as if it were the first one, with a probe right away
    $self->{pg}->query('TRUNCATE provider_health_log');

    my $before = $self->provided;
    $self->{nginx}->start;
    $self->{running} = $name;

    # which whoever counts requests is not to count
    wait_for { $self->provided > $before }
        or die "bench: no probe\n" if $name ne 'plain';
}

sub nginx {
    my ($self, $name) = @_;

    my $hole = 'http://127.0.0.1:' . $self->{hole}->sockport;
    my $hung = join "\n", map { "vidgen_provider hung-$_ {\n"
        . "submit { url $hole/; job_id /id; } probe { url $hole/; } }" }
        1 .. $hung;
    my $config = slurp("$FindBin::Bin/nginx.conf");
    $config =~ s/# MONITOR\n/$monitor{$name}\n/;
    $config =~ s/# HUNG\n/$hung\n/ if $name eq 'hung';

    my $provider = $self->{provider}->url;
    return VidgenTest::Nginx->new(
        log    => 'warn',
        config => $config,
        vars   => { DB => $self->{pg}->edge_conninfo,
                    CA => $self->{tls}->ca, STANDIN => $provider,
                    ANSWER => '{"success":true,"job_id":'
                        . '"01900000-0000-7000-9000-000000000000"}' },
        env    => { FAL_BASE_URL => $provider, FAL_API_KEY => 'none',
                    FAL_WEBHOOK_SECRET => $secret });
}

# How many requests the provider got so far.
sub provided {
    my ($self) = @_;
    my $status = get($self->{provider}->url('/requests'))->{body};
    my ($n) = $status =~ /^ \d+ \d+ (\d+) $/m or die "bench: $status\n";
    return $n - ++$self->{asked};
}

# Takes the probes that have come since, and leaves them without an answer.
sub hung {
    my ($self) = @_;
    my $n = 0;
    while (my $socket = $self->{hole}->accept) {
        push @{ $self->{held} }, $socket;
        $n++;
    }
    return $n;
}

sub all_hung { $hung }


# ---- load ------------------------------------------------------------------

# A file of requests: lines for wrk.lua.
sub file {
    my ($self, @lines) = @_;
    my $name = "$self->{dir}/" . ++$self->{files};
    spew($name, join '', @lines);
    return $name;
}

# One request again and again for so many seconds, or the requests of the file
# once each, all of which must be answered with 2xx.
sub wrk {
    my ($self, $uri, $file, %opt) = @_;

    my $seconds = $opt{seconds} // 600;
    my $n = $opt{connections} // $connections;
    my $before = $self->cpu;
    my $out = `wrk -t1 -c$n -d${seconds}s -s $FindBin::Bin/wrk.lua \\
        @{[$self->{nginx}->url($uri)]} -- $file $n`;
    my ($line) = $out =~ /^(\{.*\})$/m or die "bench: wrk: $out\n";
    my $result = decode_json($line);

    die "bench: $result->{errors} errors of wrk\n" if $result->{errors};
    die "bench: $result->{requests} of $opt{requests} requests were answered,"
        . " $result->{not_2xx} not with 2xx\n" if $opt{requests}
        && ($result->{requests} != $opt{requests} || $result->{not_2xx});
    return $self->finish($result, $before);
}

# A script of pgbench, so many times by each client; size: what one time of it
# does.
sub pgbench {
    my ($self, $script, $calls, %opt) = @_;

    my $clients = $opt{clients} // 1;
    my $size = $opt{size} // 1;
    my $log = "$self->{dir}/pgbench";
    my $before = $self->cpu;
    my $out = `$self->{pg}{bin}/pgbench -n -M prepared -c $clients -j 1 \\
        -t $calls -D calls=$calls -D i=0 -f $FindBin::Bin/$script -l \\
        --log-prefix=$log '@{[$self->{pg}->edge_conninfo]}' 2>&1`;

    my ($rate) = $out =~ /^tps = ([\d.]+) \(without/m;
    die "bench: pgbench: $out\n" if !$rate
        || $out !~ /^number of failed transactions: 0 /m;

    my $requests = $calls * $clients * $size;
    my @ms = sort { $a <=> $b } map { slurp($_) =~ /^\S+ \S+ (\d+)/mg }
        glob "$log*";
    unlink glob "$log*";

    return $self->finish({
        requests => $requests,
        seconds  => $requests / $rate / $size,
        clients  => $clients,
        p50_ms   => $ms[0.5 * $#ms] / 1000,
        p99_ms   => $ms[0.99 * $#ms] / 1000,
    }, $before);
}

# Makes room for $n more jobs and returns the first's number.
sub number {
    my ($self, $n) = @_;
    my $first = $self->{jobs} + 1;
    $self->{jobs} += $n;
    return $first;
}

# What one case wrote is not to be paid for by the next.
sub settle_down {
    my ($self) = @_;
    $self->{pg}->query('CHECKPOINT');
}


# ---- processor time --------------------------------------------------------

# Seconds used so far, by the children that have ended too; idle: of all
# processors.
sub cpu {
    my ($self) = @_;

    my (@stat) = slurp('/proc/stat') =~ /^cpu +(.*)$/m;
    @stat = split / /, $stat[0];
    return {
        time     => time,
        nginx    => used($self->{nginx} ? $self->{nginx}->workers : ()),
        db       => used(postmaster($self->{pg}->pid)),
        provider => used($self->{provider}->workers),
        idle     => ($stat[3] + $stat[4]) / $ticks,
    };
}

sub used {
    my $ticks_used = 0;
    for my $pid (@_) {
        my ($fields) = (slurp("/proc/$pid/stat") // next) =~ /\) (.*)/;
        my @fields = split / /, $fields;
        $ticks_used += $_ for @fields[11 .. 14];
    }
    return $ticks_used / $ticks;
}

sub postmaster {
    my ($pid) = @_;
    return if !$pid;
    my $children = slurp("/proc/$pid/task/$pid/children") // '';
    return ($pid, split / /, $children);
}

# In busy: the parts of one processor.
sub finish {
    my ($self, $result, $before) = @_;

    my $after = $self->cpu;
    my $n = $result->{requests};
    my %used = map { $_ => $after->{$_} - $before->{$_} } keys %$after;
    return {
        %$result,
        rps       => $n / $result->{seconds},
        cpu_us    => $used{nginx} / $n * 1e6,
        db_cpu_us => $used{db} / $n * 1e6,
        busy      => { map { $_ => $used{$_} / $used{time} } qw(nginx db
            provider idle) },
    };
}


# ---- exactness -------------------------------------------------------------

# What the database has that was not sent, or has not that was.
sub inexact {
    my ($self) = @_;

    my $n = join ', ', $credits, @$self{qw(sent jobs generated moved)};
    my @wrong = (@{ $self->{wrong} // [] }, map { $_->[0] }
        @{ $self->{pg}->query("SELECT * FROM bench.wrong($n)") });
    my $deadlocks = $self->{pg}->deadlocks;
    push @wrong, "$deadlocks deadlocks" if $deadlocks;
    return @wrong;
}


1;
