package VidgenBench::Monitor;

# The stages of what the monitor costs the worker: "quiet", there is none;
# "hung", its probes are under way all the time and nobody answers; "down", and
# PostgreSQL is not there either.

use strict;
use warnings;

use Time::HiRes qw(time);

use VidgenTest::Util qw(wait_for);


# $warm_up->() is called when a stage has begun: what is measured is not the
# worker's first calls, for which PostgreSQL makes its plans.
sub new {
    my ($class, $bench, $warm_up) = @_;
    return bless { bench => $bench, warm_up => $warm_up, stage => '' }, $class;
}


# Begins a stage, unless it is the one that there is; '' ends the last one.
sub stage {
    my ($self, $stage) = @_;

    my $bench = $self->{bench};
    return if $self->{stage} eq $stage;

    $self->end if $self->{stage} =~ /hung|down/;
    $bench->{pg}->start;
    $self->{stage} = $stage;

    if ($stage eq 'quiet') {
        $bench->run('plain', again => 1);
        return $self->{warm_up}->();
    }
    return if $stage eq '';

    $bench->hung;
    $bench->run('hung', again => 1);
    my $n = 0;
    wait_for { $n += $bench->hung; $n >= $bench->all_hung }
        or die "bench: the probes did not begin\n";
    $self->{began} = time;

    $self->{warm_up}->();
    $bench->{pg}->stop('fast') if $stage eq 'down';
}

# Probes have gone on all the time.
sub end {
    my ($self) = @_;

    my $bench = $self->{bench};
    my $seconds = time - $self->{began};
    my $n = $bench->hung;
    push @{ $bench->{wrong} }, sprintf '%d probes in %.1f seconds, %s', $n,
        $seconds, $self->{stage} if $n < $bench->all_hung * int $seconds / 8;
    $bench->{held} = [];
}


1;
