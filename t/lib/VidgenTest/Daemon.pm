package VidgenTest::Daemon;

# A part of the harness that runs as a process of its own, with an event loop,
# so that it answers while the test waits.
#
# A subclass has set_up(), which runs in the child and starts to listen, and
# methods do_NAME(), which run in the child when the test calls $object->call(
# 'NAME', ...) and return what the test gets.

use strict;
use warnings;

use JSON::PP;
use POSIX ();
use Socket qw(AF_UNIX PF_UNSPEC SOCK_STREAM);

use VidgenTest::Loop;
use VidgenTest::Stream;
use VidgenTest::Util qw(die_with_parent reap);

my $json = JSON::PP->new->latin1->canonical->allow_nonref;


sub start {
    my ($class, %self) = @_;

    my $self = bless { %self, owner => $$ }, $class;

    socketpair my $mine, my $its, AF_UNIX, SOCK_STREAM, PF_UNSPEC
        or die "socketpair: $!";

    $self->{pid} = fork // die "fork: $!";

    if (!$self->{pid}) {
        close $mine;
        eval { $self->_serve(IO::Socket->new_from_fd($its, 'r+')); 1 }
            or print STDERR "$class: $@";
        POSIX::_exit(1);
    }

    close $its;
    $mine->autoflush(1);
    $self->{control} = $mine;
    $self->call('ping');
    return $self;
}


# Runs do_NAME in the process and returns its result.
sub call {
    my ($self, $name, @arguments) = @_;

    print { $self->{control} } $json->encode([$name, @arguments]), "\n";
    my $line = readline $self->{control}
        // die ref $self, ": has died\n";
    my ($result, $error) = @{ $json->decode($line) };
    die $error if defined $error;
    return $result;
}


sub stop {
    my ($self) = @_;

    return if $self->{owner} != $$ || !$self->{pid};

    close delete $self->{control};
    my $pid = delete $self->{pid};
    kill 'TERM', $pid;
    reap($pid);
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $@, $!);
    $self->stop;
}


sub do_ping { 1 }


# ---- in the process --------------------------------------------------------

sub _serve {
    my ($self, $control) = @_;

    setpgrp 0, 0;
    die_with_parent();
    $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);

    my $loop = $self->{loop} = VidgenTest::Loop->new;
    $self->set_up;

    VidgenTest::Stream->new($loop, $control,
        on_data => sub { $self->_obey($_[0]) },
        on_end  => sub { POSIX::_exit(0) });

    $loop->run;
}

sub _obey {
    my ($self, $stream) = @_;

    while ($stream->{in} =~ s/\A(.*)\n//) {
        my ($name, @arguments) = @{ $json->decode($1) };
        my $method = "do_$name";
        my $result = eval { $self->$method(@arguments) };
        $stream->send($json->encode([$result, $@ eq '' ? undef : $@]) . "\n");
    }
}


1;
