package VidgenBench::Generations;

# Generations: through nginx, by the database alone, and where the first
# provider refuses the connection.

use strict;
use warnings;

use POSIX qw(ceil);


sub new {
    my ($class, $bench) = @_;
    return bless { bench => $bench, next => 0 }, $class;
}


# The line for wrk of a generation by user $n.
sub line {
    my ($n) = @_;
    my $user = sprintf '00000000-0000-4000-8000-%012x', $n;
    return qq(\t\t{"user_id":"$user","model_id":"video-model",)
        . qq("prompt":"a lighthouse in a storm"}\n);
}

# The file with $n generations, of all users in turn.
sub lines {
    my ($self, $n) = @_;
    my $bench = $self->{bench};
    return $bench->file(map { line($self->{next}++ % $bench->users) } 1 .. $n);
}


# ---- measurements ----------------------------------------------------------

sub proxy_pass {
    my ($self, $seconds) = @_;
    return $self->{bench}->wrk('/proxy-pass', $self->lines(1),
        seconds => $seconds);
}

# $n generations.  The provider must have been asked once for each.
sub generate {
    my ($self, $n, %opt) = @_;

    my $bench = $self->{bench};
    my $file = $self->lines($n);
    my $uri = $opt{uri} // '/generate-video';
    $bench->settle_down;

    my $before = $bench->provided;
    my $result = $bench->wrk($uri, $file, requests => $n,
        connections => $opt{connections});
    my $asked = $bench->provided - $before;

    push @{ $bench->{wrong} }, "$asked requests to the provider for $n"
        . " generations" if $asked != $n && !$opt{probed};
    $bench->{generated} += $n;
    return $result;
}

# One after the other; the first provider accepts.
sub accepted {
    my ($self, $n) = @_;
    return $self->generate($n, uri => '/accepted', connections => 1);
}

# The same, but the first provider refuses the connection.
sub refused {
    my ($self, $n) = @_;
    my $result = $self->generate($n, uri => '/refused', connections => 1);
    $self->{bench}{moved} += $n;
    return $result;
}

# vidgen.begin() and vidgen.submitted(), one generation at a time.
sub pgbench {
    my ($self, $n, $clients) = @_;

    my $bench = $self->{bench};
    my $calls = ceil($n / $clients);
    my $first = $bench->number($calls * $clients);
    $bench->{pg}->query("CALL bench.begins($first, $bench->{jobs})");
    $bench->settle_down;
    return $bench->pgbench('begin.sql', $calls, clients => $clients);
}

# The same from one client, for each of the two calls: a commit of the module.
sub call {
    my ($self, $n) = @_;
    my $result = $self->pgbench($n, 1);
    $result->{$_} /= 2 for qw(cpu_us db_cpu_us p50_ms p99_ms);
    $result->{rps} *= 2;
    return $result;
}

# The least commit that is durable.
sub commit {
    my ($self, $n) = @_;
    return $self->{bench}->pgbench('commit.sql', $n);
}


1;
