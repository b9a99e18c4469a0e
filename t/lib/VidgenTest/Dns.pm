package VidgenTest::Dns;

# A name server for nginx's resolver, in a process of its own.
#
#   my $dns = VidgenTest::Dns->new(names => { 'db.test' => '127.0.0.1' });
#   $dns->address;                          # for the resolver directive
#   $dns->set('db.test', '127.0.0.1');      # or without an address: unknown
#   $dns->questions;                        # the names asked for, so far
#
# It answers for a second with the addresses (IPv4, one or several) that it is
# told, not at all where the address is "silence", and that there is no such
# name with all others.

use strict;
use warnings;

use parent 'VidgenTest::Daemon';

use IO::Socket::INET;

use VidgenTest::Util qw(free_port);

use constant { A => 1, IN => 1, NXDOMAIN => 3 };


sub new {
    my ($class, %opt) = @_;
    return $class->start(port => free_port(), names => $opt{names} // {});
}

sub address { "127.0.0.1:$_[0]{port}" }

sub set {
    my ($self, $name, @addresses) = @_;
    return $self->call(set => $name, @addresses);
}

sub questions { $_[0]->call('questions') }


# ---- in the process --------------------------------------------------------

sub set_up {
    my ($self) = @_;

    $self->{questions} = [];
    $_ = [$_] for values %{ $self->{names} };

    my $socket = IO::Socket::INET->new(Proto => 'udp',
        LocalAddr => '127.0.0.1', LocalPort => $self->{port}, Blocking => 0)
        or die "port $self->{port}: $@";

    $self->{loop}->on_read($socket, sub {
        while (my $peer = recv $socket, my $question, 4096, 0) {
            my $answer = $self->_answer($question) // next;
            send $socket, $answer, 0, $peer;
        }
    });
}

sub do_set {
    my ($self, $name, @addresses) = @_;
    $self->{names}{$name} = \@addresses;
    return 1;
}

sub do_questions { $_[0]{questions} }


sub _answer {
    my ($self, $query) = @_;

    return undef if length $query < 12;
    my ($id, $flags) = unpack 'n n', $query;

    my $position = 12;
    my @labels;
    while (my $length = unpack 'C', substr $query, $position, 1) {
        push @labels, lc substr $query, $position + 1, $length;
        $position += 1 + $length;
    }
    my ($type) = unpack 'n', substr $query, $position + 1, 2;
    my $question = substr $query, 12, $position + 5 - 12;

    my $name = join '.', @labels;
    push @{ $self->{questions} }, $name;

    my @all = @{ $self->{names}{$name} // [] };
    return undef if grep { $_ eq 'silence' } @all;
    my @records = map { pack('n n n N n', 0xc00c, A, IN, 1, 4)
        . pack 'C4', split /\./ } $type == A ? @all : ();

    return pack('n n n n n n', $id, 0x8180 | (@all ? 0 : NXDOMAIN), 1,
        scalar @records, 0, 0) . join '', $question, @records;
}


1;
