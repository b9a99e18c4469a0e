package VidgenTest::Fickle;

# A stand-in provider that does anything, as its seed says: it accepts,
# refuses, is slow, breaks off, answers nonsense; and it may send a webhook for
# whatever it may have taken, once, twice, or first one and then the opposite,
# each until it is answered for good.
#
# Its requests have the header X-Attempt.
#
#   my $provider = VidgenTest::Fickle->new(seed => 1);
#   ...
#   wait_for { !$provider->pending };       # all webhooks are answered

use strict;
use warnings;

use parent 'VidgenTest::Provider';

use JSON::PP;

# how often, and the answer; "maybe": it may have taken it
my @answers = (
    [500, {}],
    [80,  { status => 503 }],
    [40,  { status => 500 }],
    [30,  { status => 429, headers => { 'Retry-After' => 1 } }],
    [40,  { status => 422 }],
    [20,  { status => 401 }],
    [40,  { status => 502 }, 'maybe'],
    [40,  { status => 504 }, 'maybe'],
    [40,  { drop => 'after' }, 'maybe'],
    [30,  { drop => 'middle' }, 'maybe'],
    [30,  { body => '{}' }, 'maybe'],
    [20,  { hang => 1 }, 'maybe'],
    [20,  { trickle => 0.2 }, 'maybe'],
);

my $all = 0;
$all += $_->[0] for @answers;


sub pending { $_[0]->call('pending') }


# ---- in the process --------------------------------------------------------

sub set_up {
    my ($self) = @_;
    srand $self->{seed};
    $self->{pending} = 0;
    $self->SUPER::set_up;
}

sub do_pending { $_[0]{pending} }


sub _choose {
    my ($self, $request) = @_;

    my $dice = rand $all;
    my ($chosen) = grep { ($dice -= $_->[0]) < 0 } @answers;
    my ($answer, $maybe) = @$chosen[1, 2];
    my $accepts = !%$answer;

    # the same attempt has the same id
    $request->{id} = $self->{ids}{ $request->{headers}{'x-attempt'} }
        //= "$self->{prefix}-" . ++$self->{number};
    $answer = { body => { request_id => $request->{id} }, %$answer }
        if ($answer->{status} // 200) == 200;
    $answer = { %$answer, delay => rand 0.2 } if rand() < 0.3;

    $self->_will_send($request, $accepts ? 0.9 : 0.4)
        if $accepts || $maybe;
    return $answer;
}

sub _will_send {
    my ($self, $request, $likely) = @_;

    return if rand() > $likely;
    my $data = JSON::PP->new->decode($request->{body});

    my @statuses = rand() < 0.7 ? 'completed' : 'failed';
    push @statuses, rand() < 0.5 ? $statuses[0] : 'completed', 'failed'
        if rand() < 0.3;

    for my $status (@statuses) {
        $self->{pending}++;
        $self->{loop}->after(rand 1.5, sub {
            $self->_until_answered($data->{webhook_url},
                { id => $request->{id}, status => $status }, 200);
        });
    }
}

sub _until_answered {
    my ($self, $url, $args, $tries) = @_;

    $self->_send_webhook($url, $args);
    my $sent = $self->{webhooks}[-1];
    $sent->{event} = $args;
    $self->_check($sent, $url, $args, $tries, 0);
}

sub _check {
    my ($self, $sent, $url, $args, $tries, $waited) = @_;

    $self->{loop}->after(0.1, sub {
        my $status = $sent->{status};
        if ($status == 0 && $waited < 100) {
            return $self->_check($sent, $url, $args, $tries, $waited + 1);
        }
        if ($status == 0 || $status >= 500 and $tries > 0) {
            return $self->{loop}->after(0.2 + rand 0.3, sub {
                $self->_until_answered($url, $args, $tries - 1);
            });
        }
        $self->{pending}--;
    });
}


1;
