package VidgenBench;

# What is measured: one nginx worker and a PostgreSQL that really commits,
# the load, and the processor time that it cost.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_hex);
use File::Temp ();
use FindBin;
use JSON::PP;
use POSIX ();
use Time::HiRes qw(time);

use VidgenTest::Certificate;
use VidgenTest::Http qw(request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Util qw(slurp spew);

my $users = 1000;
my $credits = 1_000_000;            # of each, at first
my $connections = 64;               # of wrk
my $secret = 'bench-webhook-secret';
my $provider = 'fal.ai';
my $ticks = POSIX::sysconf(POSIX::_SC_CLK_TCK());


sub new {
    my ($class) = @_;

    my $self = bless {
        dir  => File::Temp->newdir('vidgen-bench-XXXXXXXX', TMPDIR => 1),
        pg   => VidgenTest::Postgres->new(fsync => 1),
        tls  => VidgenTest::Certificate->new,
        jobs => 0,                  # prepared so far
        sent => 0,                  # events
    }, $class;

    $self->{nginx} = VidgenTest::Nginx->new(
        log  => 'warn',
        vars => { DB => $self->{pg}->edge_conninfo, CA => $self->{tls}->ca,
                  ANSWER => '{"success":true,"job_id":"' . attempt(0) . '"}' },
        env  => { FAL_BASE_URL => 'http://127.0.0.1:1', FAL_API_KEY => 'none',
                  FAL_WEBHOOK_SECRET => $secret },
        config => <<'EOT')->start;
%%GLOBALS%%

worker_processes 1;

events { worker_connections 1024; }

http {
    %%HTTP%%
    access_log         off;
    keepalive_requests 100000000;

    vidgen_database "%%DB%%";
    include         %%PROVIDERS%%/fal.conf;

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/video-webhook;
        proxy_ssl_trusted_certificate %%CA%%;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /video-webhook { vidgen_webhook; }

        # the size of an answer to a webhook
        location = /return-200 {
            default_type application/json;
            return 200 '%%ANSWER%%';
        }
    }
}
EOT

    $self->{pg}->psql_file("$FindBin::Bin/prepare.sql",
        variables => { users => $users, credits => $credits });
    return $self;
}


# One line about where this runs.
sub machine {
    my ($self) = @_;
    my $processors = () = slurp('/proc/cpuinfo') =~ /^processor/mg;
    my ($model) = slurp('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)$/m;
    return "$processors processors" . ($model ? " ($model)" : '')
        . ', PostgreSQL ' . $self->{pg}->value('SHOW server_version')
        . " with fsync on,\none nginx worker, wrk with $connections"
        . " connections, all on this machine\n\n";
}


# ---- events ----------------------------------------------------------------

# Makes $n jobs that wait for their webhook and returns the first's number.
sub prepare {
    my ($self, $n) = @_;
    my $first = $self->{jobs} + 1;
    $self->{jobs} += $n;
    $self->{pg}->query("CALL bench.prepare($first, $self->{jobs})");
    return $first;
}

sub is_failed { return $_[0] % 10 == 0 }

sub attempt { return sprintf '01900000-0000-7000-8000-%012x', $_[0] }

# The line for wrk of the webhook of job $n.
sub line {
    my ($n, $signature) = @_;

    my $result = is_failed($n) ? '"status":"failed","error":"out of memory"'
        : '"status":"completed","output":{"video_url":"https://cdn.test/'
            . "bench-$n.mp4\"}";
    my $body = qq({"request_id":"bench-$n",$result});
    $signature //= hmac_sha256_hex($body, $secret);
    return "?provider=$provider&attempt=" . attempt($n)
        . "\t$signature\t$body\n";
}

sub file {
    my ($self, @lines) = @_;
    my $name = "$self->{dir}/" . ++$self->{files};
    spew($name, join '', @lines);
    return $name;
}

# The file with a webhook that was handled before.
sub replayed {
    my ($self) = @_;

    return $self->{replayed} //= do {
        my $line = line($self->prepare(64));
        my ($query, $signature, $body) = split /\t/, $line =~ s/\n//r;
        my $answer = request('POST',
            $self->{nginx}->url("/video-webhook$query"),
            { 'X-Signature' => $signature }, $body);
        die "bench: $answer->{status} $answer->{body}\n"
            if $answer->{status} != 200;
        $self->{sent}++;
        $self->file($line);
    };
}

sub forged {
    my ($self) = @_;
    return $self->{forged} //= $self->file(line(1, 'a' x 64));
}


# ---- load ------------------------------------------------------------------

sub wrk {
    my ($self, $uri, $file, $seconds) = @_;

    my $before = $self->cpu;
    my $out = `wrk -t1 -c$connections -d${seconds}s -s $FindBin::Bin/wrk.lua \\
        @{[$self->{nginx}->url($uri)]} -- $file $connections`;
    my ($line) = $out =~ /^(\{.*\})$/m or die "bench: wrk: $out\n";
    my $result = decode_json($line);

    die "bench: $result->{errors} errors of wrk\n" if $result->{errors};
    return $self->finish($result, $before);
}

sub fresh {
    my ($self, $events) = @_;

    my $first = $self->prepare($events);
    my $last = $first + $events - 1;
    my $file = $self->file(map { line($_) } $first .. $last);
    $self->settle_down;

    my $result = $self->wrk('/video-webhook', $file, 600);
    die "bench: $result->{requests} of $events webhooks were answered, "
        . "$result->{not_2xx} not with 200\n"
        if $result->{requests} != $events || $result->{not_2xx};
    $self->{sent} += $events;
    return $result;
}

sub pgbench {
    my ($self, $events, $size, $clients) = @_;

    my $calls = POSIX::ceil($events / $size / $clients);
    my $first = $self->prepare($calls * $size * $clients);
    $self->{pg}->query("CALL bench.calls($first, $self->{jobs}, $size)");
    $self->settle_down;

    my $log = "$self->{dir}/pgbench";
    my $before = $self->cpu;
    my $out = `$self->{pg}{bin}/pgbench -n -M prepared -c $clients -j 1 \\
        -t $calls -D calls=$calls -D i=0 -f $FindBin::Bin/apply.sql -l \\
        --log-prefix=$log '@{[$self->{pg}->edge_conninfo]}' 2>&1`;

    my ($rate) = $out =~ /^tps = ([\d.]+) \(without/m;
    die "bench: pgbench: $out\n" if !$rate
        || $out !~ /^number of failed transactions: 0 /m;

    my $requests = $calls * $clients * $size;
    my @ms = sort { $a <=> $b } map { slurp($_) =~ /^\S+ \S+ (\d+)/mg }
        glob "$log*";
    unlink glob "$log*";
    $self->{sent} += $requests;

    return $self->finish({
        requests => $requests,
        seconds  => $requests / $rate / $size,
        clients  => $clients,
        p50_ms   => $ms[0.5 * $#ms] / 1000,
        p99_ms   => $ms[0.99 * $#ms] / 1000,
    }, $before);
}

# What one case wrote is not to be paid for by the next.
sub settle_down {
    my ($self) = @_;
    $self->{pg}->query('CHECKPOINT');
}


# ---- processor time --------------------------------------------------------

# Seconds used so far: { nginx, db }, with the children that have ended.
sub cpu {
    my ($self) = @_;
    return {
        nginx => used($self->{nginx}->workers),
        db    => used(postmaster($self->{pg}->pid)),
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
    my $children = slurp("/proc/$pid/task/$pid/children") // '';
    return ($pid, split / /, $children);
}

sub finish {
    my ($self, $result, $before) = @_;

    my $after = $self->cpu;
    my $n = $result->{requests};
    return {
        %$result,
        rps       => $n / $result->{seconds},
        cpu_us    => ($after->{nginx} - $before->{nginx}) / $n * 1e6,
        db_cpu_us => ($after->{db} - $before->{db}) / $n * 1e6,
    };
}


# ---- exactness -------------------------------------------------------------

# What the database has that was not sent, or has not that was.
sub inexact {
    my ($self) = @_;

    my @wrong = map { $_->[0] } @{ $self->{pg}->query(
        "SELECT * FROM bench.wrong($self->{sent}, $credits)") };
    my $deadlocks = $self->{pg}->deadlocks;
    push @wrong, "$deadlocks deadlocks" if $deadlocks;
    return @wrong;
}


1;
