package VidgenBench::Events;

# Webhooks: of jobs that wait for them, handled before, and forged.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_hex);
use POSIX qw(ceil);

use VidgenTest::Http qw(request);

my $provider = 'fal.ai';


sub new {
    my ($class, $bench) = @_;
    return bless { bench => $bench }, $class;
}


# Makes $n jobs that wait for their webhook and returns the first's number.
sub prepare {
    my ($self, $n) = @_;
    my $bench = $self->{bench};
    my $first = $bench->number($n);
    $bench->{pg}->query("CALL bench.prepare($first, $bench->{jobs})");
    return $first;
}

sub is_failed { return $_[0] % 10 == 0 }

sub attempt { return sprintf '01900000-0000-7000-8000-%012x', $_[0] }

# The line for wrk of the webhook of job $n.
sub line {
    my ($self, $n, $signature) = @_;

    my $result = is_failed($n) ? '"status":"failed","error":"out of memory"'
        : '"status":"completed","output":{"video_url":"https://cdn.test/'
            . "bench-$n.mp4\"}";
    my $body = qq({"request_id":"bench-$n",$result});
    $signature //= hmac_sha256_hex($body, $self->{bench}->secret);
    return "?provider=$provider&attempt=" . attempt($n)
        . "\t$signature\t$body\n";
}


# The file with a webhook that was handled before, also by this nginx.
sub replayed {
    my ($self) = @_;

    my $bench = $self->{bench};
    if (!$self->{replayed}) {
        $self->{line} = $self->line($self->prepare(1));
        $self->{replayed} = $bench->file($self->{line});
        $bench->{sent}++;
    }

    my ($query, $signature, $body) = split /\t/, $self->{line} =~ s/\n//r;
    my $answer = request('POST', $bench->{nginx}->url("/video-webhook$query"),
        { 'X-Signature' => $signature }, $body);
    die "bench: $answer->{status} $answer->{body}\n"
        if $answer->{status} != 200;
    return $self->{replayed};
}

sub forged {
    my ($self) = @_;
    return $self->{forged} //= $self->{bench}->file($self->line(1, 'a' x 64));
}


# ---- measurements ----------------------------------------------------------

sub return_200 {
    my ($self, $seconds) = @_;
    my $file = $self->{replayed} // $self->replayed;
    return $self->{bench}->wrk('/return-200', $file,
        seconds => $seconds);
}

sub replay {
    my ($self, $seconds) = @_;
    my $file = $self->{bench}{pg}->pid ? $self->replayed : $self->{replayed};
    return $self->{bench}->wrk('/video-webhook', $file, seconds => $seconds);
}

sub bad_signature {
    my ($self, $seconds) = @_;
    return $self->{bench}->wrk('/video-webhook', $self->forged,
        seconds => $seconds);
}

sub fresh {
    my ($self, $events) = @_;

    my $bench = $self->{bench};
    my $first = $self->prepare($events);
    my $file = $bench->file(map { $self->line($_) }
        $first .. $first + $events - 1);
    $bench->settle_down;

    my $result = $bench->wrk('/video-webhook', $file, requests => $events);
    $bench->{sent} += $events;
    return $result;
}

# Calls of vidgen.apply() with $size events each.
sub pgbench {
    my ($self, $events, $size, $clients) = @_;

    my $bench = $self->{bench};
    my $calls = ceil($events / $size / $clients);
    my $first = $self->prepare($calls * $size * $clients);
    $bench->{pg}->query("CALL bench.calls($first, $bench->{jobs}, $size)");
    $bench->settle_down;

    my $result = $bench->pgbench('apply.sql', $calls, size => $size,
        clients => $clients);
    $bench->{sent} += $result->{requests};
    return $result;
}


1;
